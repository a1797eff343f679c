"""A scorer by itself: the process that runs it imports this file alone, and no torch."""


def brevity(prompts, answers):
    """Shorter is better."""
    return [-len(answer) for answer in answers]
