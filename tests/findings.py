"""What tests of `lehr doctor` expect of a finding."""

from __future__ import annotations

from lehr.runtime.findings import Finding, Verdict


def said(finding: Finding, verdict: Verdict, *words: str) -> None:
    """It has this verdict and these words, and what is wrong has a remedy."""
    text = f"{finding.found} | {finding.remedy}"
    assert finding.verdict is verdict and all(word in text for word in words), finding
    assert verdict not in (Verdict.WARN, Verdict.FAIL) or finding.remedy, f"nothing says how to mend it: {finding}"
