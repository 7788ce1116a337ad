"""Dense image matching with a calibrated confidence: PDC-Net in TensorFlow and Keras."""
