"""Customer-journey research in Jupyter: personas, drop-off and journey maps from event logs.

>>> import journeylab as jl
>>> events = jl.read_events("demo")
>>> steps = jl.build_steps(events, jl.JourneyRules.load("ecommerce"))
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

# Each name and the module that has it: a name is imported when it is first used, so that `import journeylab` is quick.
_HOME = {
    "JourneylabError": "errors",
    "ParameterError": "errors",
    "ReportError": "errors",
    "RuleError": "errors",
    "SchemaError": "errors",
    "say": "language",
    "set_language": "language",
    "connect": "engine",
    "JourneyRules": "rules",
    "read_events": "sources.generic",
    "list_sources": "sources.generic",
    "check_events": "sources.check",
    "LoadReport": "sources.check",
    "write_demo": "sources.demo",
    "build_steps": "journeys",
    "build_journeys": "journeys",
    "Funnel": "funnel",
    "FunnelRules": "funnel_rules",
    "Step": "funnel_rules",
    "build_funnel": "funnel",
    "find_drop_offs": "drop_off",
    "compare_next": "leaving",
    "count_returns": "leaving",
    "measure_dwell": "leaving",
    "explain_drop_off": "explain",
    "compare_funnels": "comparison",
    "split_change": "comparison",
    "BeforeAfter": "before_after",
    "compare_before_after": "before_after",
    "compare_groups": "experiments",
    "plan_experiment": "experiments",
    "estimate_conversion": "conversion",
    "estimate_time_to_convert": "conversion",
    "compare_times": "conversion",
    "count_cohorts": "conversion",
    "count_accounts": "accounts",
    "count_roles": "accounts",
    "find_stalls": "accounts",
    "Retention": "retention",
    "count_retention": "retention",
    "count_lifecycle": "lifecycle",
    "count_churn": "lifecycle",
    "count_repeats": "lifecycle",
    "count_flows": "paths",
    "count_transitions": "paths",
    "count_variants": "paths",
    "step_matrix": "paths",
    "describe_conversion": "funnel",
    "describe_conversions": "conversion",
    "describe_drop_off": "drop_off",
    "describe_explanation": "explain",
    "describe_comparison": "comparison",
    "describe_groups": "experiments",
    "FeatureRules": "personas",
    "MarkovMixture": "personas",
    "MarkovRules": "personas",
    "Personas": "personas",
    "SequenceRules": "personas",
    "Tracking": "personas",
    "attach_stated": "personas",
    "fit_personas": "personas",
    "load_personas": "personas",
    "rename_personas": "personas",
    "track_personas": "personas",
    "compare_segments": "segments",
    "score_rfm": "rfm",
    "Picture": "picture",
    "show_headline": "tables",
    "show_table": "tables",
    "draw_funnel": "svg_funnel",
    "draw_flow": "svg_flow",
    "draw_personas": "cards",
    "draw_tracking": "svg_tracking",
    "draw_k_search": "plots",
    "draw_step_matrix": "plots",
    "draw_transitions": "plots",
    "draw_time_to_convert": "curves",
    "draw_before_after": "curves",
    "draw_cohorts": "curves",
    "draw_retention": "curves",
    "plot_time_to_convert": "curves",
    "plot_before_after": "curves",
    "plot_cohorts": "curves",
    "plot_funnel": "plots",
    "plot_k_search": "plots",
    "plot_step_matrix": "plots",
    "plot_transitions": "plots",
    "picture_of": "plots",
    "LoadedLog": "loading",
    "load_log": "loading",
    "choose_journeys": "loading",
    "FunnelExplorer": "explore",
    "PersonaExplorer": "explore",
    "explore_funnel": "explore",
    "explore_personas": "explore",
    "draw_changes": "curves",
    "plot_changes": "curves",
    "Changes": "monitor",
    "count_figures": "monitor",
    "count_members": "monitor",
    "find_changes": "monitor",
    "check_report": "disclosure",
    "fold_small": "disclosure",
    "pseudonymise": "disclosure",
    "record": "recording",
    "record_data": "recording",
    "save_table": "recording",
    "RunDiff": "diff",
    "diff_runs": "diff",
    "print_pdf": "printing",
    "ReportRun": "report",
    "list_notebooks": "report",
    "run_report": "report",
    "BatchNews": "batch",
    "run_batch": "batch",
    "run_reports": "report",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'journeylab' has no attribute {name!r}")
    value = getattr(import_module(f"journeylab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
