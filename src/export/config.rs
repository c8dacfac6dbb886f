//! The descriptions that Hugging Face's tools look for beside weights: `config.json`, `generation_config.json`,
//! `tokenizer.json`, `tokenizer_config.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::ExportError;
use nanochat_artifacts::{ExportType, canonical_json, write_atomic};
use nanochat_engine::ops::reference::{LOGIT_CAP, NORM_EPSILON, QK_SCALE, ROTARY_BASE, VALUE_GATE_SCALE};
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_engine::trained::Trained;
use nanochat_plan::ModelShape;
use nanochat_plan::shape::{
    MLP_EXPANSION, SMEAR_CHANNELS, VALUE_GATE_CHANNELS, has_value_embedding, head_dim, padded_vocab_size, window_sizes,
};

/// The token that ends a reply.
const REPLY_END: &str = "<|assistant_end|>";

/// Writes all four.
pub(super) fn write(trained: &Trained, weights: ExportType, folder: &Path) -> Result<(), ExportError> {
    let (shape, tokenizer) = (trained.model.shape(), trained.tokenizer.as_ref());
    trained.tokenizer.save(folder)?;
    for (name, value) in [
        ("config.json", model(shape, tokenizer, weights)),
        ("generation_config.json", generation(shape, tokenizer)),
        ("tokenizer_config.json", self::tokenizer(shape)),
    ] {
        let path = folder.join(name);
        write_atomic(&path, canonical_json(&path, &value)?.as_bytes())?;
    }
    Ok(())
}

/// The shape under the baseline's names and under those that other tools know, and every constant of the architecture.
fn model(shape: &ModelShape, tokenizer: &Tokenizer, weights: ExportType) -> Value {
    let layers: Vec<usize> = (0..shape.n_layer).filter(|layer| has_value_embedding(*layer, shape.n_layer)).collect();
    json!({
        "architectures": ["NanochatGPT"],
        "model_type": "nanochat_gpt",
        "sequence_len": shape.sequence_len,
        "vocab_size": shape.vocab_size,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_kv_head": shape.n_kv_head,
        "n_embd": shape.n_embd,
        "window_pattern": shape.window_pattern,
        "max_position_embeddings": shape.sequence_len,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head,
        "hidden_size": shape.n_embd,
        "intermediate_size": MLP_EXPANSION * shape.n_embd,
        "head_dim": head_dim(shape),
        "hidden_act": "relu2",
        "rope_theta": ROTARY_BASE,
        "rms_norm_eps": NORM_EPSILON,
        "qk_scale": QK_SCALE,
        "final_logit_softcapping": LOGIT_CAP,
        "attention_windows": window_sizes(shape),
        "value_embedding_layers": layers,
        "value_gate_channels": VALUE_GATE_CHANNELS,
        "value_gate_scale": VALUE_GATE_SCALE,
        "smear_channels": SMEAR_CHANNELS,
        "backout_layer": shape.n_layer / 2,
        "padded_vocab_size": padded_vocab_size(shape.vocab_size),
        "tie_word_embeddings": false,
        "torch_dtype": weights.torch_name(),
        "bos_token_id": tokenizer.bos_id(),
        "eos_token_id": tokenizer.special_id(REPLY_END),
    })
}

fn generation(shape: &ModelShape, tokenizer: &Tokenizer) -> Value {
    let ends: Vec<u32> = tokenizer.special_id(REPLY_END).into_iter().chain([tokenizer.bos_id()]).collect();
    json!({
        "bos_token_id": tokenizer.bos_id(),
        "eos_token_id": ends,
        "pad_token_id": tokenizer.bos_id(),
        "max_length": shape.sequence_len,
        "do_sample": false,
    })
}

fn tokenizer(shape: &ModelShape) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": REPLY_END,
        "model_max_length": shape.sequence_len,
        "clean_up_tokenization_spaces": false,
    })
}
