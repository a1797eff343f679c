"""Which tests are slow: one table, read by conftest.py.

A test is in the fast tier (`make test-fast`) unless it stands here, has the marker `real` or `gpu`,
or asks for the real model's folder (fixture `smollm2_folder`, and so every tokenizer that is not
trained on the spot) or for real data (`shared_data`). Slow is what trains a run, starts processes,
opens a browser, or draws enough samples to test a distribution.

All slow tests take most of an hour on two slow cores. `make test` runs a third of them beside all
fast ones, another third each week, and says which; `make test-all` runs every one.
"""

from __future__ import annotations

import zlib
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 3

# A folder, a file, or one test of a file.
SLOW = (
    "api/test_runs.py",
    "api/test_snippets.py",
    "bad/",
    "assess/test_chat.py",
    "assess/test_chat_terminal.py",
    "assess/test_evaluation.py",
    "assess/test_generation.py",
    "assess/test_handover.py",
    "assess/test_judging.py",
    "assess/test_rollouts.py",
    "assess/test_score_strangers.py::test_what_a_function_does_wrong_is_named_and_counted",
    "assess/test_score_strangers.py::test_what_it_does_beside_its_work_moves_no_value",
    "assess/test_score_strangers.py::test_what_never_comes_back_is_bounded",
    "auditing/test_commands.py",
    "auditing/test_noise.py",
    "auditing/test_page.py::test_a_file_without_faults_has_a_page",
    "auditing/test_planted.py",
    "auditing/test_real_sets.py",
    "auditing/test_verdict.py::test_audit_page_advice_and_run_agree",
    "cli/test_mistakes.py",
    "cli/test_random_words.py",
    "compare/test_budget.py::test_few_seeds_make_a_wide_interval",
    "compare/test_compare.py",
    "compare/test_frontier.py",
    "compare/test_search.py",
    "compare/test_start.py",
    "data/test_formats_bad.py::test_garbage_is_refused_and_never_raises_anything_else",
    "data/test_formats_convert.py::test_formats_of_data_sets_never_change_an_example",
    "data/test_read.py::test_the_ledger_balances_over_any_file",
    "data/test_round_trips.py",
    "demo/test_make_pairs.py::test_shipped_pairs_are_what_the_rule_makes",
    "docs/test_site.py",
    "evaluate/test_generate.py",
    "evaluate/test_groups.py",
    "evaluate/test_intervals.py",
    "evaluate/test_crossed.py",
    "evaluate/test_coverage.py",
    "evaluate/test_scorers.py",
    "examples/test_notebooks.py::test_notebook_runs_and_shows_what_it_says",
    "examples/test_examples.py::test_example_runs_and_shows_what_it_says",
    "forward/test_families.py",
    "forward/test_flex.py::test_batches_of_one_length_share_a_kernel",
    "forward/test_flex.py::test_the_flex_path_equals_the_oracle",
    "forward/test_reference.py",
    "hub/test_models.py",
    "hub/test_push.py",
    "hub/test_same_run.py",
    "migrate/test_memory_keys.py::test_the_recipe_of_a_tutorials_config_runs",
    "models/test_export.py",
    "objectives/test_policy_gradient.py::test_samples_land_there_too",
    "online/test_kinds.py",
    "online/test_overlap.py",
    "online/test_server.py",
    "online/test_worlds.py",
    "play/test_math.py",
    "play/test_page.py",
    "play/test_state.py::test_what_is_kept_between_changes_is_what_training_anew_gives",
    "report/test_report.py",
    "rlhf/test_pipeline.py",
    "rlhf/test_rounds.py",
    "rlhf/test_worlds.py",
    "test_api.py",
    "test_architectures.py",
    "test_bad_input.py",
    "test_cli.py",
    "test_columns_everywhere.py",
    "test_distributed.py",
    "test_ending.py",
    "test_environment.py::test_a_run_shows_nothing_of_it_in_its_display",
    "test_every_command.py",
    "test_faults.py",
    "test_fuzz.py",
    "test_gpu_benchmark.py",
    "test_gpu_stages.py",
    "test_new_loss.py",
    "test_real.py",
    "test_sampler.py",
    "test_seams.py::test_a_new_objective_trains",
    "test_seams.py::test_a_run_follows_the_written_update_of_its_optimizer",
    "test_secrets.py",
    "test_several_files.py::test_the_command_mixes_files",
    "test_silentbench.py",
    "test_wheel.py",
    "training/test_ahead.py",
    "training/test_audited.py",
    "training/test_base_reference.py",
    "training/test_checkpoint.py::test_disk_full_in_a_run",
    "training/test_checkpoint.py::test_room_is_asked_for_before_training",
    "training/test_cut_base.py",
    "training/test_device.py",
    "training/test_diverged.py",
    "training/test_doctor.py",
    "training/test_export.py",
    "training/test_followed.py",
    "training/test_gradients.py",
    "training/test_hold_out.py",
    "training/test_invariants.py",
    "training/test_labels.py",
    "training/test_memory.py",
    "training/test_mixed_files.py",
    "training/test_moving.py",
    "training/test_optimizers.py::test_a_run_stopped_and_resumed_ends_with_the_same_bytes",
    "training/test_optimizers.py::test_an_update_that_is_not_the_written_one_stops_the_run",
    "training/test_proofs.py",
    "training/test_quantized_runs.py",
    "training/test_ranks.py",
    "training/test_resume.py",
    "training/test_reward_model.py",
    "training/test_rollouts.py",
    "training/test_row_lengths.py",
    "training/test_runs.py",
    "training/test_sharded_loading.py",
    "training/test_signals.py",
    "training/test_step.py",
    "training/test_torture.py",
    "training/test_trackers.py",
    "training/test_watching.py",
    "web/test_browser.py",
)
SLOW_FIXTURES = {"smollm2_folder", "shared_data"}
WHOLE_FILES = frozenset(entry for entry in SLOW if "::" not in entry)


def is_slow_file(path: Path) -> bool:
    """Whether every test of this file is slow."""
    if HERE not in path.parents:
        return False
    name = path.relative_to(HERE).as_posix()
    return name in WHOLE_FILES or f"{name.partition('/')[0]}/" in WHOLE_FILES


def is_slow(path: Path, function: str, fixtures: list[str]) -> bool:
    """Whether a test is slow, by its file, its name without parameters, and its fixtures."""
    if HERE not in path.parents:
        return False
    entry = f"{path.relative_to(HERE).as_posix()}::{function}"
    return is_slow_file(path) or entry in SLOW or bool(SLOW_FIXTURES & {*fixtures})


def round_now(today: date | None = None) -> int:
    """The round whose slow tests are run this week."""
    return (today or date.today()).toordinal() // 7 % ROUNDS


def round_of(node: str) -> int:
    """The round of a test: by its file and function, so that its parameters stay together."""
    return zlib.crc32(node.partition("[")[0].encode()) % ROUNDS
