"""Every code of meaning, plan and warning messages, with its title.  Syntax codes stand in `syntax`."""

from __future__ import annotations

MEANING_CODES: dict[str, str] = {
    "E001": "there is no such file",
    "E002": "a folder was given for a file",
    "E003": "a file cannot be read",
    "E004": "the command line is wrong",
    "E010": "imports form a cycle",
    "E011": "a path leaves the folder of the spec",
    "E012": "a statement stands in the wrong place",
    "E020": "an unknown name",
    "E021": "a name is declared twice",
    "E022": "an unknown kind of block",
    "E023": "a name of the wrong kind",
    "E024": "a value is defined by itself",
    "E030": "a parameter has no value",
    "E031": "an unknown parameter",
    "E032": "a parameter's value does not fit its type",
    "E101": "an unknown field",
    "E102": "a required field is missing",
    "E103": "a field is set twice",
    "E104": "a block that does not fit here",
    "E105": "a block needs a name",
    "E110": "a value does not fit its field",
    "E111": "an unknown word",
    "E112": "an expression that cannot be evaluated",
    "E113": "a number out of range",
    "E120": "an unknown metric",
    "E121": "a metric needs a statistic",
    "E122": "the two sides of a rule do not have one unit",
    "E123": "a rule that is not a condition",
    "E130": "a link names something that is not there",
    "E131": "a flow names something that is not there",
    "E140": "a config.json that is not a model",
    "E141": "a file that is not a profile of a GPU",
    "E142": "a table of measurements that cannot be used",
    "E143": "a machine that cannot be measured",
    "E150": "a cluster without machines",
    "E151": "a model's figures contradict each other",
    "E160": "a machine-made spec does not fit the format",
}

PLAN_CODES: dict[str, str] = {
    "P001": "no plan meets these lines together",
    "P002": "the model does not fit the machines",
    "P003": "a kind of workflow that is not planned yet",
    "P004": "a rule that is not planned yet",
    "P005": "which workflow is meant",
    "P006": "a solver limit ended the search",
    "P007": "nothing to plan",
    "P008": "a form of cluster that is not planned yet",
    "P009": "a price or a power is missing",
    "P010": "an output folder cannot be used",
    "P011": "no such engine or launcher",
    "P012": "a target cannot run this plan",
    "P013": "a plan file that cannot be read",
}

WARNING_CODES: dict[str, str] = {
    "W001": "a part of the spec that is not planned yet",
    "W002": "a parameter that nothing uses",
}
