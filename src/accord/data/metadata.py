"""The table of what stands beside prompts and answers in public files: known metadata with its
reason, and names that carry content.

A column or key that no format reads is judged by this table first. Metadata is recorded with its
reason. A name that carries content must be read, or the file is refused. All other names are judged
by their values; see `unread.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

LONGEST_NAME = (
    120  # characters of a name that are matched: names are the file's, and may be hostile
)
ANY = -1  # a metadata column whose values may be of any length
SHORT = 0  # one whose values may not look like content


@dataclass(frozen=True, eq=False)
class Metadata:
    """Names that are known and carry no content.

    Args:
      names: a regular expression that a whole normalised name matches.
      reason: why nothing is lost if the column is not read.
      longest: mean characters of its texts up to which the name is believed; SHORT judges the texts
        as those of any other column, ANY believes it always.
      beside: a pattern that another column's name must match, or the row is no example of this.
      loud: whether it is reported as unread although it is known.
    """

    names: str
    reason: str
    longest: int = SHORT
    beside: str = ""
    loud: bool = False


@dataclass(frozen=True, eq=False)
class Content:
    """Names that carry content.

    Args:
      what: the content, in a few words for messages.
      any_value: whether numbers and switches count as well as text.
      beside: a pattern that another column's name must match, or the name says nothing.
    """

    names: str
    what: str
    any_value: bool = False
    beside: str = ""  # a pattern that another column's name must match


_SIDE = r"(_?(chosen|rejected|[abjk]|\d+))*"

METADATA = (
    Metadata(
        r"(.*_)?(id|ids|uid|uuid|guid|idx|hash|md5|sha\d*|checksum|digest)"
        + _SIDE
        + r"|qid|pid|cid|rowid|docid",
        "an identifier",
        ANY,
    ),
    Metadata(r"(.*_)?(index|key|row|line|index_level_\d+)" + _SIDE, "an identifier"),
    Metadata(
        r"(.*_)?(source|sources|dataset|datasets|data_source|subset|corpus|origin|collection|domain"
        r"|subreddit|website|site|url|urls|uri|link|links|path|file|filename|filepath|repo|at)"
        + _SIDE,
        "where the row comes from",
        200,
    ),
    Metadata(r"provenance|meta|metadata|info|extra_info|attributes", "notes on the row's origin"),
    Metadata(
        r"(.*_)?(model|models|policy|policies|generator|generated_by|teacher|engine|llm)"
        r"(_(name|names|id|version))?" + _SIDE,
        "the model that wrote an answer",
        100,
    ),
    Metadata(r"(.*_)?licen[cs]es?(_.*)?", "the licence of the row", ANY),
    Metadata(
        r"(.*_)?(lang|langs|language|languages|locale|country|region)(_(code|id|name))?" + _SIDE,
        "a language",
    ),
    Metadata(
        r"(.*_)?(date|time|datetime|timestamp|tstamp|created|updated|created_at|updated_at|utc|year)"
        r"(_utc)?" + _SIDE,
        "a date",
    ),
    Metadata(
        r"(.*_)?(score|scores|rating|ratings|reward|rewards|rank|ranks|ranking|rank_str|margin"
        r"|margins|vote|votes|upvotes|downvotes|likes|karma|agreement|agree|confidence|probability"
        r"|prob|probs|logprob|logprobs|logps|perplexity|loss|grade|elo|strength)" + _SIDE,
        "a score: the findings on labels and margins read it",
    ),
    Metadata(
        r"(.*_)?(helpfulness|correctness|coherence|complexity|verbosity|honesty|truthfulness"
        r"|instruction_following|informative|harmlessness|toxicity|toxic|detoxify|quality"
        r"|difficulty|severity|severity_level|harm_category|safety|nsfw|good_natured)(_.*)?",
        "a rating of one aspect",
    ),
    Metadata(r"(is|in|has|was)_.+", "a mark that is true or false"),
    Metadata(
        r"(.*_)?(category|categories|class|label|labels|topic|topics|tag|tags|type|types|kind|task"
        r"|tasks|subject|genre|skill|skills|ability|level|field|intent|status|state|stage|step"
        r"|preference|winner|verdict|choice|noise|flipped|deleted|synthetic|order|role)" + _SIDE,
        "a short label",
    ),
    Metadata(
        r"(chosen|rejected|completion)_ended", "how an answer ended: one that was cut gets no end"
    ),
    Metadata(r"(.*_)?(split|fold|partition)", "a split"),
    Metadata(
        r"(num|n|number|len|length|count|total|avg|mean|min|max|sum)_.+"
        r"|(.*_)?(tokens|turns|turn|count|counts|len|length|lengths|size|chars|words|difference"
        r"|ratio|distance|num)" + _SIDE,
        "a count",
    ),
    Metadata(
        r"(.*_)?(annotator|annotators|worker|workers|rater|raters|labeler|labeller|reviewer|judge"
        r"|username|user_name|user|author|contributor|batch|job|version)(_(name|hash|model))?"
        + _SIDE,
        "who wrote or labelled it",
        60,
    ),
    Metadata(
        r"(.*_)?(critique|critiques|feedback|judge?ment|annotation|annotations|review|reviews)\d*"
        + _SIDE
        + r"|(individual|all|three_most_similar)_preferences?(_.*)?|preference_.+"
        r"|(quality|rating|score|judge|difficulty)_(explanation|rationale|reason)s?"
        r"|(raw_)?labelling_.+|review_.+",
        "what a judge wrote about the answers",
        ANY,
    ),
    Metadata(
        r"rationales?(_for_.*)?" + _SIDE,
        "what a judge wrote about the answers",
        ANY,
        r"(.*_)?(rating|ratings|score|scores|labelling.*|judge.*|preference.*)" + _SIDE,
    ),
    Metadata(
        r"knowledge|intent",
        "a tagger's notes on the instruction",
        ANY,
        r"input_quality|task_category|quality_explanation",
    ),
    Metadata(
        r"raw_.*(generation|response|output|completion)s?.*|generation_(prompt|prompts|model.*)"
        r"|original_.+|new_generations|all_generated_responses|gen_.+|generation_.*config.*"
        r"|distilabel_metadata(_.*)?|full_(chosen|rejected)|custom_system_prompt|principle|.*_configs?|sampling_params",
        "a record of how answers were made",
        ANY,
    ),
    Metadata(
        r"((all|other|candidate|candidates|further)_)*(generations|completions|responses|candidates"
        r"|answers|outputs|policies)",
        "further answers, beside those that are compared",
        ANY,
        r"chosen|rejected|.*_response|response_.*|output|completion|response",
    ),
    Metadata(
        r"quotes_[01]|trajectory_id",
        "passages that one answer's search found: no part of the prompt",
        ANY,
        r"answer_[01]",
    ),
    Metadata(
        r"(ground_truth|gold|gold_answer|gold_label|reference_answer|final_answer|correct_answers?"
        r"|incorrect_answers?|best_answer|expected_answer|expected|answer_key|gold_.+"
        r"|instruction_id_list|kwargs|constraints|verifier|verification|test_cases|tests)",
        "what an answer is verified against",
        ANY,
    ),
    Metadata(
        r"weight|weights|loss_weight|train|trainable|mask|loss_mask|channel|end_turn|recipient"
        r"|parallel_tool_calls",
        "a switch of another tool: accord scores whole answers, all with one weight",
        loud=True,
    ),
    Metadata(
        r"headers?|user_agent",
        "the record of a request",
        ANY,
        r"hashed_ip|ip|ip_address|conversation_hash",
    ),
    Metadata(
        r"(chat_|conversation_)?titles?",
        "the name of a conversation",
        200,
        r"conversations?|messages|mapping",
    ),
    Metadata(
        r"cache_control|emojis|moderation|openai_moderation|anony|type", "a tool's own record"
    ),
)

CONTENT = (
    Content(
        r"(is_|was_)?(undesirable|undesired|bad|disliked|downvoted|dispreferred)|thumbs_?down"
        r"|(is|was)_rejected",
        "which answers are bad",
        any_value=True,
    ),
    Content(
        r"(.*_)?(image|images|img|imgs|picture|pictures|photo|photos|video|videos|audio|audios"
        r"|speech|sound|sounds|frames|pixel_values|waveform|screenshot|screenshots|pdf|pdfs)"
        r"(_(path|paths|url|urls|file|files|bytes|data|name|names))?",
        "media",
        any_value=True,
    ),
    Content(r"chat_template_kwargs|template_kwargs", "options of the chat template", True),
    Content(
        r"(.*_)?(tools|functions|tool_schemas?|function_schemas?|available_tools|apis)",
        "tools that the model may call",
    ),
    Content(r"tool_calls|function_call|tool_call", "calls of tools"),
    Content(
        r"(.*_)?(context|contexts|ctx|passage|passages|paragraph|paragraphs|document|documents|doc"
        r"|docs|article|articles|evidence|background|excerpt|excerpts|premise|premises|knowledge"
        r"|schema|snippet|snippets)(_text)?",
        "what the question is about",
    ),
    Content(r"inputs?|input_text", "what the instruction works on"),
    Content(
        r"history|histories|(chat|conversation|dialogue|dialog|message)_history|dialog|dialogue"
        r"|dialogues|conversation|conversations|messages|transcript|previous_.+|prior_.+",
        "turns of a conversation",
    ),
    Content(
        r"(option|choice|opt|answer_option|ending|op)_?[a-h1-8]|distractor_?\d+|[a-e]",
        "choices to answer from",
        beside=r"(option|choice|opt|answer_option|ending|op)_?[a-c1-3]|distractor_?[12]|[a-c]",
    ),
    Content(
        r"prefill|(response|answer|assistant|completion|generation)_(prefix|start)|prefix|suffix"
        r"|(prompt|question|instruction|user)_(prefix|suffix)",
        "text around the prompt or the answer",
    ),
    Content(r"choices|options|answer_options|answer_choices|endings", "choices to answer from"),
    Content(
        r"system|system_?messages?|system_?prompts?|sys_prompt|system_?text|system_instructions?"
        r"|developer(_message)?|personas?|(user|bot)_persona|persona_.+|guidelines?",
        "instructions to the model",
    ),
    Content(
        r"prompts?|questions?|query|queries|instructions?|problem"
        r"|(additional|extra|custom|format|output|answer|special|task)_instructions?",
        "a question or instruction",
    ),
    Content(r"hints?|clues?|few_shot(_.*)?|demonstrations?", "help for the answer"),
    Content(
        r"reasoning(_content|_text|_trace)?|thinking|thoughts?|chain_of_thought|cot|scratchpad"
        r"|explanations?|rationales?",
        "the reasoning of an answer",
    ),
)

Verdict = Metadata | Content | None


def normalised(name: object) -> str:
    """Return a column's name in lower case, its words joined by underscores."""
    text = str(name)[:LONGEST_NAME]
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


@lru_cache(maxsize=4096)
def _matches(name: str) -> tuple[tuple[Metadata, ...], Content | None]:
    word = normalised(name)
    known = tuple(each for each in METADATA if re.fullmatch(each.names, word))
    return known, next((each for each in CONTENT if re.fullmatch(each.names, word)), None)


@lru_cache(maxsize=8192)
def _stands_beside(pattern: str, names: frozenset[str]) -> bool:
    return any(re.fullmatch(pattern, normalised(name)) for name in names)


def classify(name: object, names: frozenset[str] = frozenset()) -> Verdict:
    """Look a name up: metadata, content, or neither.

    Args:
      names: the other columns of the row, since some names depend on what stands beside them.
    """
    known, content = _matches(str(name)[:LONGEST_NAME])

    def beside(pattern: str) -> bool:
        # made where it is asked for: a set for each of 24,000 columns took 18 of 29 s
        return _stands_beside(pattern, names - {str(name)})

    if content is not None and content.beside and not beside(content.beside):
        content = None
    # a name of both tables is content, unless its neighbours or its form say otherwise
    fits = [
        each
        for each in known
        if (content is None or each.beside or each.longest == ANY)
        and (not each.beside or beside(each.beside))
    ]
    # of several, the one that allows the longest texts says most of the name
    most = max(fits, key=lambda each: (each.longest == ANY, each.longest), default=None)
    return most or content


# Keys of a message that every reader takes, and of a list of answers.
MESSAGE_KEYS = frozenset({"role", "content", "from", "value", "text", "parts"})
# Keys of messages that a chat template may take; they count as read where a row hands them over.
TEMPLATE_KEYS = {
    "name": "name",
    "tool_call_id": "name",
    "tool_calls": "calls",
    "function_call": "calls",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "thought": "reasoning",
}
# Columns that `TemplateInputs` takes, by its field; they count as read where a row hands them over.
TEMPLATE_COLUMNS = {
    "tools": "tools",
    "functions": "tools",
    "documents": "documents",
    "chat_template_kwargs": "options",
}
