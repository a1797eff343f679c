"""Rewards: from prompts, answers and rows to one number per answer, or the reason why there is
none.

    from accord.rewards.load import load_rewards
    reward = load_rewards(["final_answer", "length=-0.001", "mine:helpful=0.5", "runs/rm/final"])
    found = reward(prompts, answers, rows)
    found.values      # [N] float64
    found.failures    # {index: reason}

Nothing is imported here: the process that runs a stranger's function (worker.py) starts without
torch.
"""
