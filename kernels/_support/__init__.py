"""What all kernels share: arithmetic for both worlds, tiles as data, and compilation ahead of time."""
