//! Schemas of the keys that have a short form: one value as well as a list or a mapping. The short form is rewritten
//! before the types see it, so that no type has to guess.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use nanochat_plan::Profile;

use super::document::{PROFILE_SCHEMA, SPEC_SCHEMA};
use super::scalar::EXACT_INTEGER;

/// The `schema` entry of a spec.
pub fn spec_schema_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": SPEC_SCHEMA })
}

/// The `schema` entry of a hardware profile.
pub fn profile_schema_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": PROFILE_SCHEMA })
}

/// A path, or several.
pub fn extends(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "string", "minLength": 1 },
        { "type": "array", "items": { "type": "string", "minLength": 1 }, "maxItems": 32 },
    ] })
}

/// At least one seed, each once.
pub fn seeds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "integer", "minimum": 0, "maximum": EXACT_INTEGER },
        "minItems": 1,
        "maxItems": 1000,
        "uniqueItems": true,
        "examples": [[42, 43, 44]],
    })
}

/// A profile's name, or a profile.
pub fn hardware(generator: &mut SchemaGenerator) -> Schema {
    let inline = generator.subschema_for::<Profile>();
    json_schema!({ "anyOf": [{ "type": "string", "minLength": 1 }, inline], "examples": ["cpu", "h100-x8"] })
}

/// Flags by name: text, a number, or true for a switch.
pub fn flags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": ["string", "number", "boolean"] },
        "examples": [{ "warmdown-ratio": 0.5 }],
    })
}

/// `random`, `baseline`, `control`, or a file.
pub fn init(_: &mut SchemaGenerator) -> Schema {
    let word = |word: &str, meaning: &str| json!({ "type": "string", "const": word, "description": meaning });
    json_schema!({ "anyOf": [
        { "oneOf": [
            word("random", "The baseline's distributions, drawn from the run's seed by this program."),
            word("baseline", "The very weights that the baseline drew at step 0 with the run's seed."),
            word("control", "The very weights that the control arm's checkout draws with the run's seed."),
        ] },
        {
            "type": "object",
            "properties": { "weights": {
                "type": "string",
                "minLength": 1,
                "description": "A safetensors file with the baseline's parameter names.",
            } },
            "additionalProperties": false,
        },
    ] })
}

/// Seconds, or text with units; or these as a limit beside whether a longer run is refused.
pub fn wall_clock(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "number", "exclusiveMinimum": 0 },
            { "type": "string" },
            { "type": "null" },
            {
                "type": "object",
                "properties": {
                    "limit": {
                        "anyOf": [{ "type": "number", "exclusiveMinimum": 0 }, { "type": "string" }],
                        "description": "Seconds, or text with units.",
                    },
                    "refuse": {
                        "type": "boolean",
                        "description": "Refuse a run that is estimated to take longer, in the place of stopping it.",
                    },
                },
                "additionalProperties": false,
            },
        ],
        "examples": [3600, "90m", "2h30m"],
    })
}
