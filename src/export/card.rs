//! The model card: what the folder holds, where it comes from, how it was checked, how to use it.

use std::fmt::Write as _;

use nanochat_artifacts::{Export, ExportLayout};

/// The text of `README.md`.
pub(super) fn text(export: &Export) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = fill(export, &mut text);
    text
}

fn fill(export: &Export, out: &mut String) -> std::fmt::Result {
    let (shape, source) = (&export.model, &export.source);
    let name = source.run_id.clone().unwrap_or_else(|| format!("baseline checkpoint of step {}", source.step));
    writeln!(out, "---\ntags: [nanochat]\npipeline_tag: text-generation\n---\n\n# {name}\n")?;
    writeln!(
        out,
        "A base language model of {} parameters in the architecture of karpathy/nanochat, exported by nanochat (Rust) {} with \
         weights in {}. `export.json` says the same to programs.\n",
        export.parameters,
        export.program_version,
        export.weights.word(),
    )?;
    writeln!(out, "{}\n", usage(export))?;
    writeln!(out, "## Shape\n\n| | |\n|---|---|")?;
    let heads = format!("{} for queries, {} for keys and values", shape.n_head, shape.n_kv_head);
    for (what, value) in [
        ("layers", shape.n_layer.to_string()),
        ("width", shape.n_embd.to_string()),
        ("heads", heads),
        ("context", format!("{} tokens", shape.sequence_len)),
        ("windows", format!("`{}`", shape.window_pattern)),
        ("vocabulary", format!("{} tokens", shape.vocab_size)),
    ] {
        writeln!(out, "| {what} | {value} |")?;
    }
    provenance(export, out)?;
    figures(export, out)?;
    writeln!(
        out,
        "\n## Checks\n\n`expected.safetensors` has `input_ids`, the source's `logits` of their last tokens, and the 32 tokens \
         (`greedy_ids`) that follow the first row when the likeliest is taken each time, of which the second likeliest comes as \
         close as `greedy_gap` in its logit. Before this folder was put in place:\n"
    )?;
    for check in &export.checks {
        let bound = check.bound.map_or("told, not judged".to_string(), |bound| format!("allowed: {bound:e}"));
        writeln!(
            out,
            "- `{}`: {}; {} numbers, largest difference {:e} ({bound})",
            check.file, check.quantity, check.numbers, check.max_abs
        )?;
    }
    if !export.remarks.is_empty() {
        writeln!(out, "\n## Left out\n")?;
        export.remarks.iter().try_for_each(|remark| writeln!(out, "- {remark}"))?;
    }
    Ok(())
}

fn provenance(export: &Export, out: &mut String) -> std::fmt::Result {
    let source = &export.source;
    let code = source.code_commit.as_ref().map(|commit| match source.code_clean {
        Some(true) => format!("`{commit}`"),
        _ => format!("`{commit}`, with changes or unknown whether"),
    });
    let quoted = |value: &Option<String>| value.as_ref().map(|value| format!("`{value}`"));
    writeln!(out, "\n## Provenance\n\n| | |\n|---|---|")?;
    for (what, value) in [
        ("trained by", Some(if source.program == "run" { "nanochat (Rust)" } else { "karpathy/nanochat" }.to_string())),
        ("experiment", quoted(&source.experiment)),
        ("run", quoted(&source.run_id)),
        ("plan", quoted(&source.plan_hash)),
        ("seed", source.seed.map(|seed| seed.to_string())),
        ("step", Some(source.step.to_string())),
        ("code", code),
        ("data, SHA-256", quoted(&source.data_sha256)),
        ("tokenizer, SHA-256", Some(format!("`{}`", source.tokenizer_sha256))),
        ("weights, SHA-256", Some(format!("`{}`", source.weights_sha256))),
    ] {
        writeln!(out, "| {what} | {} |", value.as_deref().unwrap_or("unknown"))?;
    }
    Ok(())
}

fn figures(export: &Export, out: &mut String) -> std::fmt::Result {
    let Some(figures) = &export.figures else { return Ok(()) };
    writeln!(out, "\n## Figures\n\n| | |\n|---|---|\n| training tokens | {} |", figures.tokens)?;
    if let Some(bits) = figures.val_bpb {
        writeln!(out, "| validation bits per byte | {bits:.6} |")?;
    }
    if let Some(core) = figures.core_metric {
        writeln!(out, "| CORE | {core:.4} |")?;
    }
    if !figures.verdicts.is_empty() {
        writeln!(out, "\nThe experiment's scorecard, over all its runs:\n\n| | verdict | |\n|---|---|---|")?;
    }
    for (name, judged) in &figures.verdicts {
        let verdict = serde_json::to_value(judged.verdict).unwrap_or_default();
        let verdict = verdict.as_str().unwrap_or_default().replace('_', " ");
        writeln!(out, "| {name} | {verdict} | {} |", judged.reason.replace('|', "\\|").replace('\n', " "))?;
    }
    Ok(())
}

/// How the folder is used.
fn usage(export: &Export) -> String {
    let step = export.source.step;
    match export.layout {
        ExportLayout::Safetensors => "`model.safetensors` has the weights under karpathy/nanochat's parameter names; \
             `config.json` has the shape and every constant of the architecture, which no released model class computes: \
             `nanochat/gpt.py` there is the reference. `tokenizer.json` loads in Hugging Face's tokenizers. \
             `nanochat generate --checkpoint FOLDER` and `nanochat eval --checkpoint FOLDER` take the folder as it is."
            .into(),
        ExportLayout::Onnx => "`model.onnx` gives `logits` (batch, sequence, vocabulary) for `input_ids` (batch, sequence). \
             `model_with_past.onnx` goes on from a cache: it also takes `past_key_values.<layer>.key` and `.value` (batch, \
             key/value heads, past_sequence, head size), at first with no tokens, and `past_embedding` (batch, 1, width), at \
             first zeros; it gives `present.<layer>.key`, `.value` and `present_embedding` out for the next call. Positions \
             follow from the cache's length, windows are masked inside, and all rows of a batch are equally long. Both \
             graphs compute in f32, whatever type the weights are kept in; `model.onnx_data`, where it is there, belongs \
             to both. `tokenizer.json` loads in Hugging Face's tokenizers."
            .into(),
        ExportLayout::Baseline => format!(
            "A base folder of karpathy/nanochat: with `NANOCHAT_BASE_DIR` naming it, `load_model(\"base\", device, \
             phase=\"eval\", model_tag=\"d{}\", step={step})` and the scripts that rest on it take the model and its tokenizer.",
            export.model.n_layer
        ),
    }
}
