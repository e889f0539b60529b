"""How far back the gradients of a trained model reach."""
