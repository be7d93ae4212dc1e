"""Where a model looks: Grad-CAM, CBAM's own maps, and both against the boxes that radiologists drew."""
