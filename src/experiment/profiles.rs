//! Hardware profiles outside of any spec.

use nanochat_plan::Profile;

use super::sources;
use crate::config::{self as spec, Inside, SpecErrors, profiles};

/// The names of all profiles there are, in order.
pub fn profile_names() -> Vec<String> {
    profiles::names()
}

/// A profile by name.
///
/// # Errors
/// No such profile, or one that isn't sound.
pub fn load_profile(name: &str) -> Result<Profile, SpecErrors> {
    let source = profiles::find(name, &Inside::anywhere()).map_err(|error| SpecErrors::one(name, error))?;
    let node = spec::parse(&source).map_err(|problems| SpecErrors::new(name, problems))?;
    let problems = spec::check::PROFILE.check(&node, true);
    if !problems.is_empty() {
        return Err(SpecErrors::new(name, problems));
    }
    let layer = profiles::as_layer(&node, name);
    let stated = layer.get("hardware").map(spec::Node::to_json);
    sources::profile(stated.as_ref()).map_err(|problems| {
        let messages: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        SpecErrors::one(name, spec::Diagnostic::error("bad-profile", messages.join("; ")))
    })
}
