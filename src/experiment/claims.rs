//! Claims and the rules that know them.

use nanochat_artifacts::{SpeedClaim, SpeedRule};

use crate::config::document::{QualitySpec, Ruleset};
use crate::config::{Diagnostic, Merged};

/// The ruleset as documents write it.
pub fn word(ruleset: Ruleset) -> &'static str {
    match ruleset {
        Ruleset::V1 => "v1",
        Ruleset::V2 => "v2",
    }
}

/// The speed rule with its claim, which is `off` by default from rules v2 on.
pub fn speed(ruleset: Ruleset, rule: SpeedRule) -> SpeedRule {
    let claim = (ruleset == Ruleset::V2).then(|| rule.claim.unwrap_or(SpeedClaim::Off));
    SpeedRule { claim, ..rule }
}

/// Claims that the rules don't know, or lack.
pub fn wrong(merged: &Merged, ruleset: Ruleset, quality: &QualitySpec, speed: &SpeedRule) -> Vec<Diagnostic> {
    let at = |code, message: String, path: &[&str]| Diagnostic::error(code, message).at(merged.place(path));
    if ruleset == Ruleset::V2 {
        let lacks = quality.claim.is_none().then(|| {
            at("missing-key", "`quality.claim` is missing: rules v2 judge what is claimed".to_owned(), &["ruleset"])
                .help("`quality: { claim: better }`, `no_worse` (within the tolerance), or `off`")
        });
        return lacks.into_iter().collect();
    }
    let stated = [("quality.claim", quality.claim.is_some()), ("speed.claim", speed.claim.is_some())];
    let wrong = stated.into_iter().filter(|(_, is_stated)| *is_stated).map(|(key, _)| {
        let path: Vec<&str> = key.split('.').collect();
        at("needs-ruleset", format!("`{key}` is for rules v2, and the spec is judged by v1"), &path)
            .help("write `ruleset: v2`, or leave the claim out")
    });
    wrong.collect()
}
