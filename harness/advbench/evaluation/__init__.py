"""The matrix: plan, craft, score."""

from __future__ import annotations

from advbench.evaluation.answers import Answers
from advbench.evaluation.blame import plan_kept
from advbench.evaluation.cells import Axes, Cell
from advbench.evaluation.contracts import (
    ASTRAY,
    check_adversarial,
    check_budget,
    check_dataset,
    check_defended,
    check_form,
    check_logits,
    check_norm,
    check_note,
    check_unchanged,
)
from advbench.evaluation.convergence import double_steps
from advbench.evaluation.crew import Crew
from advbench.evaluation.dataset_facts import class_names, dataset_notes
from advbench.evaluation.driver import Observer, run_todo
from advbench.evaluation.environment import THREAD_VARIABLES, Environment, Workspace, adopt, device_name, pick_device
from advbench.evaluation.estimate import Estimate, estimate
from advbench.evaluation.exhibits import Exhibits
from advbench.evaluation.manifest import make_manifest
from advbench.evaluation.memory import memory_for_each, memory_held
from advbench.evaluation.plan import Plan, build_plan, pick_ids, resolve_axes
from advbench.evaluation.room import check_room
from advbench.evaluation.survey import Job, Rerun, Todo, survey
from advbench.evaluation.tasks import CleanTask, CraftTask, Outcome, ScoreTask
from advbench.evaluation.threat import ADAPTIVE, THREATS, Threat, select_threats

__all__ = [
    "ADAPTIVE",
    "ASTRAY",
    "THREAD_VARIABLES",
    "THREATS",
    "Answers",
    "Axes",
    "Cell",
    "CleanTask",
    "CraftTask",
    "Crew",
    "Environment",
    "Estimate",
    "Exhibits",
    "Job",
    "Observer",
    "Outcome",
    "Plan",
    "Rerun",
    "ScoreTask",
    "Threat",
    "Todo",
    "Workspace",
    "adopt",
    "build_plan",
    "check_adversarial",
    "check_budget",
    "check_dataset",
    "check_defended",
    "check_form",
    "check_logits",
    "check_norm",
    "check_note",
    "check_room",
    "check_unchanged",
    "class_names",
    "dataset_notes",
    "device_name",
    "double_steps",
    "estimate",
    "make_manifest",
    "memory_for_each",
    "memory_held",
    "pick_device",
    "pick_ids",
    "plan_kept",
    "resolve_axes",
    "run_todo",
    "select_threats",
    "survey",
]
