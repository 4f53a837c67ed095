"""SynthVOS: scenes of cut-out objects moving over photographs, rendered with exact ground truth."""
