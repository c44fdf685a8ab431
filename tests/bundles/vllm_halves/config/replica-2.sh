#!/usr/bin/env bash
# r2: layers 0 to 3 on big-0:3 (H100)
# hexc wrote this script from plan.json for vLLM 0.32.  Further options of `vllm serve` may follow:
#
#   HEXC_VLLM_PYTHON=/path/to/python config/NAME.sh [OPTION]...
#
#   HEXC_VLLM_PYTHON  the Python of vLLM's own environment (left out: python3)
#   HEXC_API_KEY      the key that clients must send (left out: none)
# shellcheck disable=SC2016 # what came from the spec is quoted so that nothing in it expands
set -euo pipefail

python=${HEXC_VLLM_PYTHON:-python3}
model=/specs/models/tiny
options=(
  --served-model-name tiny # the name that clients send
  --host 127.0.0.1 # where the router finds it
  --port 18103
  --tensor-parallel-size 1 # no layer is shared
  --pipeline-parallel-size 1 # layers of each stage: 4
  --distributed-executor-backend mp # plain processes, without Ray
  --dtype bfloat16 # H100 multiplies fp8 directly
  --kv-cache-dtype auto # the plan keeps the KV cache in bf16
  --block-size 16 # tokens in a block of the KV cache
  --gpu-memory-utilization 0.9 # share of the memory that weights and KV cache may fill
  --max-model-len 512 # longest prompt and answer together
  --max-num-seqs 4 # requests that run together
  --max-num-batched-tokens 512 # tokens of a step: decoding requests and chunks of prompts
  --max-num-queued-reqs 68 # more are told to come back
  --kv-transfer-config '{"kv_connector": "NixlConnector", "kv_role": "kv_consumer", "kv_load_failure_policy": "recompute"}' # fetches KV caches, and decodes
)

# A checkpoint that is quantised says how; any other is brought to fp8 while it loads.
if ! grep -q '"quantization_config"' -- "$model/config.json"; then
  options+=(--quantization fp8)
fi

if [[ -n ${HEXC_API_KEY:-} ]]; then export VLLM_API_KEY=$HEXC_API_KEY; fi
exec "$python" -m vllm.entrypoints.cli.main serve "$model" "${options[@]}" "$@"
