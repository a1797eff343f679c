"""Going past a fixed file: rewards for the policy's own answers, and what is made of them."""
