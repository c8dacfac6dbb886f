//! Every kind of document, its JSON schema, and validation of files of any kind.
//!
//! Schemas are generated from the Rust types, so that they can't say something else; `schemas/` holds them for editors and
//! scripts, and `nanochat schema --check` fails when it is out of date. Results are checked against their schema and for
//! consistency within the document; what lies in other documents is `verify`'s.

mod folder;
mod reference;
mod validate;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::scorecard::compare::Comparison;
use nanochat_artifacts::{
    ArmsRecord, BaselineResult, Bench, Document, Environment, ExperimentRecord, Export, Generation, NoiseRecord,
    Scorecard, Summary, TimingRecord,
};
use nanochat_experiment::config as spec;
use nanochat_plan::{PlanSet, RunPlan};

pub use folder::{Drift, compare, write, write_spec_schema};
pub use validate::{Validated, to_json, validate};

/// A kind of document.
pub struct Kind {
    /// Name, as in `schemas/<name>.schema.json`.
    pub name: &'static str,
    /// The `schema` entry of its documents; none for what isn't stored.
    pub id: Option<&'static str>,
    schema: fn() -> Value,
}

impl Kind {
    /// Its JSON schema.
    pub fn schema(&self) -> Value {
        let mut schema = (self.schema)();
        if let Some(id) = self.id
            && let Some(property) = schema.pointer_mut("/properties/schema")
        {
            property["const"] = json!(id);
        }
        schema
    }
}

/// All kinds, in order of name.
pub const KINDS: [Kind; 21] = [
    Kind { name: "arms", id: Some(ArmsRecord::SCHEMA), schema: of::<ArmsRecord> },
    Kind { name: "baseline", id: Some(BaselineResult::SCHEMA), schema: of::<BaselineResult> },
    Kind { name: "bench", id: Some(Bench::SCHEMA), schema: of::<Bench> },
    Kind { name: "comparison", id: Some(Comparison::SCHEMA), schema: of::<Comparison> },
    Kind { name: "comparison_context", id: None, schema: of::<crate::report::ComparisonContext> },
    Kind { name: "environment", id: Some(Environment::SCHEMA), schema: of::<Environment> },
    Kind { name: "experiment", id: Some(spec::document::SPEC_SCHEMA), schema: nanochat_experiment::editors::spec },
    Kind { name: "experiment_record", id: Some(ExperimentRecord::SCHEMA), schema: of::<ExperimentRecord> },
    Kind { name: "export", id: Some(Export::SCHEMA), schema: of::<Export> },
    Kind { name: "generation", id: Some(Generation::SCHEMA), schema: of::<Generation> },
    Kind { name: "hardware", id: Some(spec::document::PROFILE_SCHEMA), schema: || spec::schema::PROFILE.clone() },
    Kind { name: "leaderboard_context", id: None, schema: of::<crate::scorecard::LeaderboardContext> },
    Kind { name: "noise", id: Some(NoiseRecord::SCHEMA), schema: of::<NoiseRecord> },
    Kind { name: "plan", id: Some(RunPlan::SCHEMA), schema: of::<RunPlan> },
    Kind { name: "plan_set", id: Some(PlanSet::SCHEMA), schema: of::<PlanSet> },
    Kind { name: "report_context", id: None, schema: of::<crate::report::Context> },
    Kind { name: "scorecard", id: Some(Scorecard::SCHEMA), schema: of::<Scorecard> },
    Kind { name: "site_index_context", id: None, schema: of::<crate::report::SiteIndex> },
    Kind { name: "site_page_context", id: None, schema: of::<crate::report::SitePage> },
    Kind { name: "summary", id: Some(Summary::SCHEMA), schema: of::<Summary> },
    Kind { name: "timing", id: Some(TimingRecord::SCHEMA), schema: of::<TimingRecord> },
];

/// The kind that a document's `schema` entry names.
pub fn kind_of(id: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.id == Some(id))
}

/// Schema of what is written: every field is there.
fn of<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    schema
}

/// Drops the machine's number formats, which JSON doesn't know, and gives every key a title.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                for (key, property) in properties.iter_mut() {
                    if let Some(property) = property.as_object_mut() {
                        property.entry("title").or_insert_with(|| Value::String(key.replace('_', " ")));
                    }
                }
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
