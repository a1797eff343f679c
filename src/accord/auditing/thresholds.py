"""Thresholds of the audit: the value at which a number becomes a finding, in one table, each with
its reason.

They are judgements, not laws. A finding shows the measured number beside the threshold, so that a
reader may judge otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from accord.objectives.labelled import BALANCE


@dataclass(frozen=True)
class Threshold:
    """A limit, and the reason for its value."""

    value: float
    reason: str


THRESHOLDS = {
    "rejected": Threshold(
        0.001, "share of unusable rows; the same limit at which `accord train` refuses"
    ),
    "rejected_unfit": Threshold(
        0.20, "a fifth of a file unreadable: it is another file than its maker thinks"
    ),
    "duplicates": Threshold(
        0.05,
        "share of repeated comparisons; sound files hold a few (two annotators, two crawls), and"
        " under one in twenty their extra weight is lost in noise",
    ),
    "duplicates_unfit": Threshold(0.50, "half of the file repeats the other half"),
    "contradictions": Threshold(
        0.001, "share of pairs that say A≻B where another says B≻A; one in a thousand is a slip"
    ),
    "contradictions_unfit": Threshold(
        0.10, "noise of at least 5 % that needs no estimate: one of each two rows is wrong"
    ),
    "repeats": Threshold(
        50, "rows of one prompt; a batch of 16 over 1,000 rows then meets it almost every time"
    ),
    "one_prompt": Threshold(
        0.2,
        "share of rows with one prompt: a fifth of the file is about it, or its prompts were lost",
    ),
    "effective_share": Threshold(
        0.5,
        "effective prompts over rows (Kish 1965): under a half, intervals by row are too narrow"
        " by 1.4",
    ),
    "near_prompts": Threshold(
        0.05,
        "share of near copies (prompts, or whole rows): a split by exact prompt leaks at that rate",
    ),
    "near_prompts_note": Threshold(0.01, "under one prompt in a hundred nothing changes"),
    "near_jaccard": Threshold(
        0.8,
        "Jaccard similarity of character 8-grams; one word changed in a sentence of ten gives"
        " about .6",
    ),
    "near_candidate": Threshold(
        0.3,
        "similarity of 6-grams from which on the words of two short prompts are compared: two slips"
        " in 40 letters leave .49",
    ),
    "near_candidate_of_many": Threshold(0.5, "… in a file of more than 200,000 different prompts"),
    "near_long": Threshold(
        0.6,
        "similarity from which on two prompts with over 200 letters of their own are near copies",
    ),
    "near_changed": Threshold(
        0.12,
        "share of content words that may be others or more: one of nine, none of eight. Slips and"
        " little words do not count",
    ),
    "near_form": Threshold(
        0.6, "similarity from which on two answers of one file are a form, filled in"
    ),
    "generic": Threshold(
        0.01,
        "share of different prompts (5 at least, 50 at most) that may have a turn or a sentence"
        " before it is generic",
    ),
    "contained": Threshold(
        0.95,
        "share of a turn's own sentences, by characters, that stand in one turn of the other file;"
        " a form with another word in it is another question",
    ),
    "frame": Threshold(
        0.08,
        "share of a block's different prompts from which on the text that they share is a frame; at"
        ' .03 the topic of TruthfulQA ("americans") is one',
    ),
    "frame_of_most": Threshold(
        0.5, "… and which is a frame also where it leaves nearly nothing of a prompt"
    ),
    "same_answers": Threshold(
        0.9, "Jaccard similarity of the two answers of a pair: they differ in a few characters"
    ),
    "repeated_answer": Threshold(
        0.01, "share of one side that is one long answer, a stale one, or another row's"
    ),
    "repeated_several": Threshold(
        0.05,
        "share of long answers under two prompts or more, or on the other side under another;"
        " refusals written from forms are, in 1 % of a sound file",
    ),
    "repeated_short": Threshold(
        0.05, "share of one short answer that is worth a note; a label or a refusal may be right"
    ),
    "like_prompts": Threshold(
        0.75,
        "chance that two prompts of one answer are more alike than two of different ones, from"
        " which on it is a stock answer to one question; ½ is chance",
    ),
    "derived_answers": Threshold(
        0.05, "share of pairs whose one answer is the other cut short, or without its marks"
    ),
    "swapped_rows": Threshold(
        0.03, "share of rows, strewn, whose prompt and answer are each judged to be the other"
    ),
    "swapped_both": Threshold(
        0.4,
        "… and of the rows in which one text is, at least: .55 to .67 where 30 % are exchanged, up"
        " to .15 in sound files",
    ),
    "swapped_asks": Threshold(0.5, "share of such answers that ask, by a question mark or a word"),
    "swapped_gap": Threshold(0.3, "… and by how much more than the prompts of their rows"),
    "swapped_whole": Threshold(
        0.4, "share of answers that ask or order, where all rows may be exchanged"
    ),
    "swapped_few": Threshold(
        0.1, "… share of them that order at least, and of prompts that ask at most"
    ),
    "near_identical_pairs": Threshold(
        0.05,
        "share of pairs whose answers hardly differ: those that displace likelihood most (Pal et"
        " al. 2024)",
    ),
    "leak": Threshold(
        0.01,
        "share of held-out rows with a trained prompt; the limit at which `accord train` refuses",
    ),
    "ids": Threshold(0.001, "share of rows whose id names another row too; as for unusable rows"),
    "ids_distinct": Threshold(
        0.5,
        "different values of a column over different prompts, from which on it names rows or"
        " prompts; a category, a user or a passage has fewer",
    ),
    "one_cluster": Threshold(
        0.5, "share of rows in one cluster of prompts; what is left for a held-out set is outliers"
    ),
    "held_out_auc": Threshold(
        0.7,
        "area under the curve at which held-out rows are of another kind or length (the interval"
        " must reach .65); 21 random splits of 7 real sets give .41 to .63"
        " for kinds, .44 to .57 for lengths",
    ),
    "held_out_sources": Threshold(
        0.1, "total variation distance of two files' categories, beyond what chance gives"
    ),
    "held_out_easier": Threshold(
        0.1, "gap between the intervals of both files, in the share of pairs that are easy"
    ),
    "held_out_labels": Threshold(
        0.15, "difference of the shares of desirable rows; their intervals must not meet"
    ),
    "tail": Threshold(
        0.01, "share of either file that may lie on the other's side of the cut of a sorted file"
    ),
    "shortcut": Threshold(
        0.65,
        "accuracy of a rule on one feature; reward models on human data reach .65 to .75, so such a"
        " rule rivals them",
    ),
    "shortcut_note": Threshold(
        0.55, "lower end of the interval above it: present, and worth a look"
    ),
    "shortcut_unfit": Threshold(
        0.95, "one feature decides nearly every pair: the objective will learn the feature"
    ),
    "decisive": Threshold(0.85, "how often a feature wins where the answers differ in it"),
    "decisive_share": Threshold(
        0.05,
        "share of pairs that differ in it; under it the rule touches too few pairs to be learnt",
    ),
    "signature": Threshold(
        0.03,
        "share of one side with a mark that the other lacks; pairs of published sets have up to"
        " .028 (“I have no comment.”) and .006 of anything else",
    ),
    "signature_ratio": Threshold(
        20.0, "times as often on one side as on the other: exclusive, as no topic or style is"
    ),
    "words_perfect": Threshold(
        0.95,
        "accuracy of words alone; human or judge labels reach .62 to .75 on published sets, and no"
        " preference that depends on the prompt lets words without it decide 19 of 20 pairs",
    ),
    "words_perfect_low": Threshold(0.90, "lower end of its interval: some 60 rows show it"),
    "beyond": Threshold(
        0.25,
        "share of what a rule predicts that stronger rules must leave to it, in log loss; under a"
        " quarter it is their symptom",
    ),
    "habit_gap": Threshold(
        0.15,
        "difference of the shares of an unusual beginning, ending or habit; published sets have up"
        " to .11",
    ),
    "habit_ratio": Threshold(
        2.5, "times as often, with such a difference: full stops at .90 and .74 are ordinary"
    ),
    "noise": Threshold(
        0.10,
        "upper half of what careful annotation shows; label smoothing pays from about here"
        " (Mitchell 2023)",
    ),
    "noise_unfit": Threshold(0.40, "lower end: nearly coin flips"),
    "noise_rows": Threshold(
        200,
        "rows judged, under which the texts cannot tell flips from a weak classifier: of 80 and of"
        " 160 rows drawn from seven sound files 3 to 5 % had a lower end above .1 (seeds 1 to 19)",
    ),
    "noise_prompts": Threshold(100, "prompts that these rows must come from, as for the rows"),
    "noise_skill": Threshold(
        0.55,
        "lower end of the probe's accuracy, under which nothing is shown by its contradictions",
    ),
    "noise_sure_error": Threshold(
        0.05,
        "errors of the surest rows that are no flips: up to .05 to .08 where people's sureness is"
        " heavy-tailed (5,000 synthetic pairs without a flip)",
    ),
    "noise_spread": Threshold(
        2.0,
        "factor of variance, beside the design effect: folds share their training rows. With 1 the"
        " 95 % interval held .67 to .89 of cases of 5,000 rows, with 1.5 .92, with 2 .97 and more",
    ),
    "noise_prompts_tell": Threshold(
        0.5,
        "lower end of the area under the curve with which prompts tell contradicted labels: flips"
        " at random have .5; calls of functions, of which one fits, have .65 in 250 rows",
    ),
    "noise_wide": Threshold(0.25, "width of the interval from which texts alone cannot tell"),
    "swapped": Threshold(
        0.5,
        "share of scored pairs whose score says the opposite, above which the columns are"
        " exchanged",
    ),
    "judge": Threshold(
        0.05,
        "share of pairs against which a score may go and still have made the labels: 4 % in"
        " UltraFeedback",
    ),
    "proxy": Threshold(
        0.02,
        "share of pairs against which a number without a claim may go and still decide the label",
    ),
    "near_tie": Threshold(
        0.5,
        "score gap under which a reward model's or judge's order is chance (the project's lesson)",
    ),
    "near_tie_spread": Threshold(
        0.03,
        "of the gaps' 90 % quantile, for scores without a scale: 4 % of normal gaps lie below it,"
        " 7 % of exponential ones",
    ),
    "near_tie_share": Threshold(0.10, "share of near ties that is worth a filter"),
    "spike": Threshold(
        3.0,
        "times as many rows at a score as at its neighbours: a parser's default, not a judgement",
    ),
    "few_pairs": Threshold(
        3_000,
        "under a few thousand pairs DPO overfits within an epoch or two (the project's lesson)",
    ),
    "very_few_pairs": Threshold(200, "no measurement on held-out rows will be significant"),
    "dominant_cluster": Threshold(
        0.5, "share of prompts in one topic: what is learnt is about that topic"
    ),
    # Ranks of own answers: means of .81 to .999 on seven real sets, .49 to .51 once shuffled.
    "belonging_rank": Threshold(
        0.6, "mean rank of own answers under which a run of rows can be misplaced; ½ is chance"
    ),
    "belonging_low": Threshold(
        0.66, "half way from chance to the lowest mean rank of a real set, .81"
    ),
    "belonging_gain": Threshold(
        0.15, "gain in rank at which other rows' answers fit better; honest sets lose .2 and more"
    ),
    "belonging_shift": Threshold(
        0.08,
        "the same for one shift, which is fewer to choose from: of four rows a prompt, a shift by"
        " one moves one to another prompt",
    ),
    "belonging_unfit": Threshold(0.5, "share of misplaced answers: half of the file is noise"),
    "kto_low": Threshold(
        BALANCE[0], "λ_D n_D / (λ_U n_U) of KTO, Ethayarajh et al. 2024, §4.2, version 5: from 1 …"
    ),
    "kto_high": Threshold(BALANCE[1], "… to 3/2; earlier versions of the paper said 4/3"),
    "minority_label": Threshold(
        0.02, "share of the rarer label: a batch of 32 would often have none"
    ),
    "language": Threshold(0.02, "share of answers in another language or script than their prompt"),
    "marks": Threshold(
        0.001, "share of one side with a foreign mark or a repeated text; as for unusable rows"
    ),
    # Measured on 14 published files (67,680 rows): at most 0.40 % of one side hold an end token,
    # 0.10 % a next speaker, 0.02 % their answer, 0.01 % a frame. Nearly all are real faults.
    "marks_unfit": Threshold(
        0.05, "twelve times the worst share in published sets: the file was rendered, or cut badly"
    ),
    "repeated_prompt": Threshold(
        0.01, "up to 0.43 % of answers in published sets restate their question, as a style"
    ),
    "repeated_prompt_unfit": Threshold(
        0.20, "some tasks restate the question; a fifth of all answers is no style any more"
    ),
    "marks_gap": Threshold(
        0.02, "difference between the sides' shares: a mark that one side has is a shortcut"
    ),
    "marks_rows": Threshold(
        3, "rows under which no share makes a file unfit: one may be a quotation"
    ),
    # Measured on the first halves of five published sets (14,500 rows): at most 0.13 % of one side
    # hold one kind of wreck, and nearly all of those are real.
    "wreck": Threshold(
        0.01, "share of one side with one kind of wreck: eight times the worst in published sets"
    ),
    "wreck_unfit": Threshold(0.50, "most texts of a side are no texts"),
    "wreck_gap": Threshold(
        0.005, "difference between the sides' shares: what one side has is a shortcut"
    ),
    "wreck_gap_rows": Threshold(
        8, "rows on one side alone that chance puts there once in 2^7 files"
    ),
    "one_sided": Threshold(
        2.0, "share of one side as a multiple of the other's: 35 % beside 31 % gives no label away"
    ),
    "wreck_usual": Threshold(
        0.002, "share of one side with one kind in a sound file; .04 to .3 % in published sets"
    ),
    "wreck_chance": Threshold(
        0.005,
        "bound on the chance that so many occur at the usual rate: 3 texts of 50, 4 of 200, 9 of"
        " 1,000 pass it",
    ),
    "watermark": Threshold(
        0.1, "texts with a pattern for each text with an unseen character: the latter are its rest"
    ),
    "wreck_repeats": Threshold(
        3, "different prompts with the same answer that make a weak sign a sure one"
    ),
    # Measured on the same sets: 0.2 to 2.5 % of one side end inside a word or a sentence; where
    # every text is cut in half, 32 to 60 % do by characters and 12 to 48 % by words.
    "cut": Threshold(
        0.04, "share of texts that end inside a word or a sentence; up to 2.5 % in published sets"
    ),
    "cut_usual": Threshold(
        0.02, "share of texts that end so in a sound file: 5 of 120 are chance, 12 of 120 are not"
    ),
    "cut_prompts": Threshold(
        0.05, "share of prompts alone: a prompt may be the beginning of a text, an answer may not"
    ),
    "cut_prompt_pile": Threshold(0.08, "share of prompts that stop at one length, with no answer"),
    "cut_inside": Threshold(
        0.10, "share of such ends among texts of one length; a third of all words end no sentence"
    ),
    "too_long": Threshold(
        0.05, "share of rows lost to a length limit; the limit at which `accord train` refuses"
    ),
    "special_tokens": Threshold(
        0.001, "share of rows with a special token inside their text; as for unusable rows"
    ),
    "easy": Threshold(
        0.8, "share of pairs that the reference ranks already: little is left to learn"
    ),
    "far": Threshold(
        1.5, "nats a token by which answers are less likely than the model's own: off-policy"
    ),
}


def limit(name: str) -> float:
    """Return the value of a threshold."""
    return THRESHOLDS[name].value
