"""From images to people with a trained model."""
