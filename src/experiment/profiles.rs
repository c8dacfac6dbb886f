//! Hardware profiles outside of any spec.

use super::sources;
use crate::config::{self as spec, SpecErrors, document::HardwareSpec, profiles};
use nanochat_plan::Profile;

/// The names of all profiles there are, in order.
pub fn profile_names() -> Vec<String> {
    profiles::names()
}

/// A profile by name.
///
/// # Errors
/// No such profile, or one that isn't sound.
pub fn load_profile(name: &str) -> Result<Profile, SpecErrors> {
    let source = profiles::find(name).map_err(|error| SpecErrors::one(name, error))?;
    let node = spec::parse(&source).map_err(|problems| SpecErrors::new(name, problems))?;
    let problems = spec::check::PROFILE.check(&node, true);
    if !problems.is_empty() {
        return Err(SpecErrors::new(name, problems));
    }
    let layer = profiles::as_layer(&node, name);
    let stated = layer.get("hardware").map(spec::Node::to_json).unwrap_or_default();
    let broken = |message: String| SpecErrors::one(name, spec::Diagnostic::error("bad-profile", message));
    let stated: HardwareSpec = serde_json::from_value(stated).map_err(|error| broken(error.to_string()))?;
    sources::profile(Some(&stated)).map_err(|problems| {
        let messages: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        broken(messages.join("; "))
    })
}
