"""The network: HRNet backbone, pose proposals (PPG) and their refinement (PR)."""
