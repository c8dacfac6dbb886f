//! A base folder of karpathy/nanochat: `base_checkpoints/d<layers>/` with `model_<step>.pt`, `meta_<step>.json` and, from a
//! run's own checkpoint, `optim_<step>_rank0.pt`; `tokenizer/` with `tokenizer.pkl` and `token_bytes.pt`. Its own
//! `load_model("base", …)` finds them when `NANOCHAT_BASE_DIR` names the folder.

use std::path::Path;

use candle_core::Device;
use serde_json::json;

use super::compare::compare;
use super::source::Origin;
use super::{ExportError, Subject, Written, resume};
use nanochat_artifacts::{ExportType, create_folder};
use nanochat_engine::checkpoint::Loaded;
use nanochat_engine::checkpoint::baseline::{load_token_bytes, save, save_token_bytes};
use nanochat_engine::tokenizer::TokenizerFormat;
use nanochat_engine::trained::Trained;
use nanochat_plan::RunPlan;

/// Writes the folder and opens it again as `--checkpoint` would.
pub(super) fn write(subject: &Subject<'_>, folder: &Path) -> Result<Written, ExportError> {
    let (trained, weights) = (subject.trained, subject.options.weights);
    if weights != ExportType::F32 {
        let reason = format!("the baseline keeps its master weights in f32, not {}", weights.word());
        return Err(ExportError::Weights { reason });
    }
    let (model, step) = (&trained.model, trained.step);
    let tag = format!("d{}", model.shape().n_layer);
    let checkpoints = folder.join("base_checkpoints").join(&tag);
    create_folder(&checkpoints)?;
    let state = resume::state_of(trained)?;
    let resumed = trained.plan.as_ref().zip(state.as_ref());
    save(&checkpoints, step, model.parameters(), &meta(trained, subject.origin, resumed))?;
    if let Some((plan, state)) = resumed {
        resume::write_optimizer(plan, state, &checkpoints)?;
    }
    let tokenizer = folder.join("tokenizer");
    create_folder(&tokenizer)?;
    trained.tokenizer.save_as(&tokenizer.join("tokenizer.pkl"), TokenizerFormat::Pickle)?;
    let lengths = tokenizer.join("token_bytes.pt");
    save_token_bytes(&lengths, &trained.tokenizer.token_bytes())?;

    let file = format!("base_checkpoints/{tag}/model_{step:06}.pt");
    let back = Trained::open(&checkpoints, None, None, &Device::Cpu)?;
    let quantity = "logits of the folder opened again, against the source's";
    // The same numbers through the same kernels: the same bits.
    let checks = vec![compare(&file, quantity, subject.logits, &subject.probe.logits(&back.model)?, Some(0.0))?];
    if back.tokenizer.sha256() != trained.tokenizer.sha256()
        || load_token_bytes(&lengths)? != trained.tokenizer.token_bytes()
    {
        let reason = "the tokenizer reads back as another one".into();
        return Err(ExportError::Weights { reason });
    }
    Ok(Written { checks, remarks: vec![remark(resumed).into()] })
}

/// What the baseline can't do with the folder.
fn remark(resumed: Option<(&RunPlan, &Loaded)>) -> &'static str {
    match resumed {
        None => {
            "no optimizer state is known of the source: the baseline evaluates, chats and fine-tunes from this, and doesn't \
             resume pretraining"
        }
        Some((plan, _)) if plan.data.is_parquet() => {
            "the baseline resumes in one process, behind the row group that was read last, as it does from its own \
             checkpoints; this program goes on at the very token"
        }
        Some(_) => "the run's data is no parquet: the baseline resumes in one process, and begins its own data anew",
    }
}

/// What the baseline's scripts read of `meta_<step>.json`.
fn meta(trained: &Trained, origin: &Origin, resumed: Option<(&RunPlan, &Loaded)>) -> serde_json::Value {
    let mut meta = json!({
        "step": trained.step,
        "val_bpb": origin.figures.as_ref().and_then(|figures| figures.val_bpb),
        "model_config": trained.model.shape(),
        "user_config": {},
    });
    if let Some(plan) = &trained.plan {
        // The fine-tuning there takes its learning rates from these.
        let rates = &plan.optimizer;
        meta["user_config"] = json!({
            "depth": plan.model.n_layer,
            "max_seq_len": plan.model.sequence_len,
            "window_pattern": plan.model.window_pattern,
            "num_iterations": plan.num_iterations,
            "device_batch_size": plan.device_batch_size,
            "total_batch_size": plan.total_batch_size,
            "embedding_lr": rates.embedding_lr,
            "unembedding_lr": rates.unembedding_lr,
            "matrix_lr": rates.matrix_lr,
            "scalar_lr": rates.scalar_lr,
            "weight_decay": rates.weight_decay,
            "warmup_steps": rates.warmup_steps,
            "warmdown_ratio": rates.warmdown_ratio,
            "final_lr_frac": rates.final_lr_frac,
        });
        meta["device_batch_size"] = plan.device_batch_size.into();
        meta["max_seq_len"] = plan.model.sequence_len.into();
        meta["total_batch_size"] = plan.total_batch_size.into();
    }
    if let Some((plan, state)) = resumed {
        let val_bpb = origin.figures.as_ref().and_then(|figures| figures.val_bpb);
        meta["dataloader_state_dict"] = resume::place_in_data(plan, state).into();
        meta["loop_state"] = resume::loop_state(state, val_bpb);
    }
    meta
}
