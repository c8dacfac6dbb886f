//! The graphs' files as other programs read them, the evaluator against the model, and logits of another runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::*;
use crate::tests::{options, shapes, trained};
use crate::{ExportOptions, export};
use nanochat_artifacts::{Export, ExportLayout, ExportType};
use nanochat_engine::checkpoint::load_tensors;
use nanochat_formats::onnx::proto::{EXTERNAL, Graph, Model, Node, ValueInfo, element};
use nanochat_plan::shape::padded_vocab_size;

fn exported(shape: &ModelShape, options: &ExportOptions, out: &Path) -> Export {
    export(&trained(shape), options, out).unwrap()
}

fn read(path: &Path) -> Model {
    Model::read(path).unwrap()
}

fn graph(path: &Path) -> Graph {
    read(path).graph.unwrap()
}

/// Names of inputs or outputs with their sizes as text.
fn described(values: &[ValueInfo]) -> BTreeMap<String, String> {
    let described = values.iter().map(|value| {
        let kind = value.kind.clone().unwrap().tensor.unwrap();
        let sizes = kind.shape.unwrap().dim.into_iter();
        let sizes = sizes.map(|size| size.dim_param.or(size.dim_value.map(|value| value.to_string())).unwrap());
        let name = if kind.elem_type == Some(element::INT64) { "i64" } else { "f32" };
        (value.name.clone().unwrap(), format!("{name} {}", sizes.collect::<Vec<_>>().join(" ")))
    });
    described.collect()
}

/// Both graphs of every shape compute the model's logits, whatever type the weights are stored in, inside or in an external file.
#[test]
fn graphs_compute_the_models_logits() {
    let folder = tempfile::tempdir().unwrap();
    for (number, shape) in shapes().iter().enumerate() {
        for weights in [ExportType::F32, ExportType::F16, ExportType::Bf16] {
            for external_above in [0, u64::MAX] {
                let out = folder.path().join(format!("{number}-{}-{external_above}", weights.word()));
                let options = ExportOptions { external_above, ..options(ExportLayout::Onnx, weights) };
                let document = exported(shape, &options, &out);
                let judged: Vec<_> = document.checks.iter().filter(|check| check.bound == Some(1e-4)).collect();
                assert_eq!(judged.iter().map(|check| check.file.as_str()).collect::<Vec<_>>(), [WHOLE, CACHED]);
                let numbers =
                    2 * (nanochat_plan::shape::window_sizes(shape).iter().min().unwrap() + 16) * shape.vocab_size;
                assert!(judged.iter().all(|check| check.numbers == numbers as u64), "{judged:?}");
                assert_eq!(document.checks.len(), if weights == ExportType::F32 { 2 } else { 3 });
                assert_eq!(document.files.contains_key(DATA), external_above == 0);
                assert!(document.files.contains_key("tokenizer.json") && document.files.contains_key("config.json"));
            }
        }
    }
}

#[test]
fn the_cached_graph_declares_its_inputs_and_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let shape = &shapes()[1];
    exported(shape, &options(ExportLayout::Onnx, ExportType::F32), &folder.path().join("out"));
    let whole = graph(&folder.path().join("out").join(WHOLE));
    let logits = format!("f32 batch sequence {}", shape.vocab_size);
    assert_eq!(described(&whole.input), BTreeMap::from([("input_ids".to_string(), "i64 batch sequence".to_string())]));
    assert_eq!(described(&whole.output), BTreeMap::from([("logits".to_string(), logits.clone())]));
    let cached = graph(&folder.path().join("out").join(CACHED));
    let (inputs, outputs) = (described(&cached.input), described(&cached.output));
    assert_eq!((inputs.len(), outputs.len()), (2 + 2 * shape.n_layer, 2 + 2 * shape.n_layer));
    assert_eq!(
        (&inputs["past_embedding"], &outputs["present_embedding"]),
        (&"f32 batch 1 48".into(), &"f32 batch 1 48".into())
    );
    assert_eq!(outputs["logits"], logits);
    for layer in 0..shape.n_layer {
        for kind in ["key", "value"] {
            assert_eq!(inputs[&format!("past_key_values.{layer}.{kind}")], "f32 batch 2 past_sequence 12");
            assert_eq!(outputs[&format!("present.{layer}.{kind}")], "f32 batch 2 total_sequence 12");
        }
    }
}

/// What a reader relies on: nodes in order, one name for each value, no unused weight, common operators of one set.
#[test]
fn files_are_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let plain: BTreeSet<&str> = [
        "Add",
        "And",
        "Cast",
        "Concat",
        "Cos",
        "Div",
        "Gather",
        "GreaterOrEqual",
        "Identity",
        "LessOrEqual",
        "MatMul",
        "Mul",
        "Range",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Sin",
        "Slice",
        "Softmax",
        "Sqrt",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
    .into();
    for shape in &shapes() {
        let out = folder.path().join(format!("{}-{}", shape.n_layer, shape.n_head));
        let document = exported(shape, &options(ExportLayout::Onnx, ExportType::Bf16), &out);
        for name in [WHOLE, CACHED] {
            let model = read(&out.join(name));
            assert_eq!((model.ir_version, model.opset_import.len()), (Some(11), 1));
            assert_eq!(model.opset_import[0].version, Some(23));
            let graph = model.graph.unwrap();
            let mut known: BTreeSet<String> = BTreeSet::new();
            let (mut read, mut names) = (BTreeSet::new(), BTreeSet::new());
            let given = graph.input.iter().map(|input| input.name.clone().unwrap());
            known.extend(given.chain(graph.initializer.iter().map(|data| data.name.clone().unwrap())));
            assert_eq!(known.len(), graph.input.len() + graph.initializer.len());
            for node in &graph.node {
                assert!(plain.contains(node.op_type.as_deref().unwrap()), "{:?}", node.op_type);
                assert!(names.insert(node.name.clone().unwrap()), "{:?} twice", node.name);
                for input in &node.input {
                    assert!(known.contains(input), "{input} is read before it is there");
                    read.insert(input.clone());
                }
                assert!(known.insert(node.output[0].clone()), "{} twice", node.output[0]);
            }
            let unread = graph.initializer.iter().filter(|data| !read.contains(data.name.as_ref().unwrap()));
            assert_eq!(unread.count(), 0);
            // Every parameter is there once, without the rows that pad the vocabulary.
            let weights = graph.initializer.iter().filter(|data| data.data_type != Some(element::INT64));
            let weights = weights.filter(|data| {
                !data.name.as_ref().unwrap().contains('/') && data.name.as_deref() != Some("inverse_wavelengths")
            });
            let held: i64 = weights.map(|data| data.dims.iter().product::<i64>()).sum();
            let padding = padded_vocab_size(shape.vocab_size) - shape.vocab_size;
            let widths = 2 * shape.n_embd + shape.n_layer.div_ceil(2) * shape.n_kv_head * head_dim(shape);
            assert_eq!(held as u64, document.parameters - (padding * widths) as u64);
            for data in &graph.initializer {
                let is_matrix = data.dims.len() == 2 && data.name.as_deref() != Some("inverse_wavelengths");
                assert_eq!(data.data_type == Some(element::BFLOAT16), is_matrix, "{:?}", data.name);
            }
        }
    }
}

#[test]
fn external_weights_are_shared_aligned_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (shape, out) = (&shapes()[0], folder.path().join("out"));
    let beside = ExportOptions { external_above: 0, ..options(ExportLayout::Onnx, ExportType::F32) };
    exported(shape, &beside, &out);
    let held = fs::metadata(out.join(DATA)).unwrap().len();
    let mut places = Vec::new();
    for name in [WHOLE, CACHED] {
        let graph = graph(&out.join(name));
        let external: Vec<_> = graph.initializer.iter().filter(|data| data.data_location == Some(EXTERNAL)).collect();
        let mut spans = Vec::new();
        for data in &external {
            let entry = |key: &str| {
                data.external_data
                    .iter()
                    .find(|entry| entry.key.as_deref() == Some(key))
                    .unwrap()
                    .value
                    .clone()
                    .unwrap()
            };
            assert_eq!(entry("location"), DATA);
            let [start, length] = ["offset", "length"].map(|key| entry(key).parse::<u64>().unwrap());
            assert_eq!((start % 4096, length), (0, 4 * data.dims.iter().product::<i64>() as u64));
            spans.push((start, start + length, data.name.clone()));
        }
        spans.sort();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no two overlap");
        assert_eq!(spans.last().unwrap().1, held);
        // What sizes and places are made of stays inside, where runtimes look for it.
        assert!(
            graph.initializer.iter().all(|data| (data.data_type == Some(element::INT64)) <= data.raw_data.is_some())
        );
        assert!(fs::metadata(out.join(name)).unwrap().len() < held / 4);
        places.push(spans);
    }
    assert_eq!(places[0], places[1], "both graphs read one file");

    let whole = fs::read(out.join(DATA)).unwrap();
    fs::write(out.join(DATA), &whole[..whole.len() - 1]).unwrap();
    let cut = Evaluator::read(&out.join(WHOLE)).err().unwrap();
    assert!(cut.to_string().contains("cut off"), "{cut}");
}

/// Broken graphs are refused: nothing is computed, and nothing outside the folder is read.
#[test]
fn broken_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (shape, out) = (&shapes()[2], folder.path().join("out"));
    exported(shape, &ExportOptions { external_above: 0, ..options(ExportLayout::Onnx, ExportType::F32) }, &out);
    let good = read(&out.join(WHOLE));
    let refused = |change: &dyn Fn(&mut Graph), expected: &str| {
        let mut model = good.clone();
        change(model.graph.as_mut().unwrap());
        let path = out.join("changed.onnx");
        fs::write(&path, model.to_bytes()).unwrap();
        let ids = Tensor::zeros((1, 4), DType::I64, &Device::Cpu).unwrap();
        let outcome = Evaluator::read(&path).and_then(|graph| graph.run([(IDS.to_string(), ids)].into()));
        let error = outcome.expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    let external = |graph: &mut Graph, key: &str, value: &str| {
        let data = graph.initializer.iter_mut().find(|data| data.data_location == Some(EXTERNAL)).unwrap();
        let entry = data.external_data.iter_mut().find(|entry| entry.key.as_deref() == Some(key)).unwrap();
        entry.value = Some(value.into());
    };
    refused(&|graph| external(graph, "location", "../out/model.onnx_data"), "leads out of the folder");
    refused(&|graph| external(graph, "location", ".."), "leads out of the folder");
    refused(&|graph| external(graph, "offset", "18446744073709551615"), "cut off");
    refused(&|graph| external(graph, "length", "12"), "12 bytes, where");
    refused(&|graph| external(graph, "offset", "-1"), "invalid digit");
    refused(&|graph| graph.initializer[0].raw_data = None, "it has no bytes");
    refused(&|graph| graph.initializer[0].data_type = Some(8), "element type Some(8) is not known");
    refused(&|graph| graph.initializer[0].dims = vec![-1], "out of range");
    refused(&|graph| graph.node[3].op_type = Some("Det".into()), "`Det` of");
    refused(&|graph| graph.node.swap(0, 5), "is not known yet");
    refused(&|graph| graph.output[0].name = Some("other".into()), "nothing computes `other`");
    refused(&|graph| graph.node.push(Node::default()), "of 0 inputs");
    refused(&|graph| graph.node[3].output.clear(), "has not one output");
    fs::write(out.join("cut.onnx"), &fs::read(out.join(WHOLE)).unwrap()[..500]).unwrap();
    assert!(Evaluator::read(&out.join("cut.onnx")).is_err());
}

/// The models that `fixtures/export` was taken from, in the order of their shapes.
fn model_names() -> [&'static str; 3] {
    ["full", "windowed-grouped", "odd-depth"]
}

/// What onnxruntime and karpathy/nanochat gave for the files of these very models: logits and greedy tokens are ours.
#[test]
fn other_programs_gave_what_the_model_gives() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/export");
    let recorded = ["onnxruntime.json", "baseline.json"].map(|name| {
        let text = fs::read_to_string(fixtures.join(name)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in model_names().into_iter().zip(shapes()) {
        let out = folder.path().join(name);
        exported(&shape, &options(ExportLayout::Onnx, ExportType::F32), &out);
        let expected = load_tensors(&out.join("expected.safetensors"), &Device::Cpu).unwrap();
        let numbers = |name: &str| serde_json::to_value(expected[name].to_vec2::<i64>().unwrap()).unwrap();
        let kept = expected["logits"].dim(1).unwrap();
        let last = expected["logits"].narrow(1, kept - 1, 1).unwrap().squeeze(1).unwrap().to_vec2::<f32>().unwrap();
        for theirs in recorded.iter().map(|recorded| &recorded["models"][name]) {
            assert_eq!(numbers("input_ids"), theirs["input_ids"], "the same model and ids");
            assert_eq!(numbers("greedy_ids")[0], theirs["greedy_ids"]);
            for (row, ours) in last.iter().enumerate() {
                let logits = theirs["last_logits"][row].as_array().unwrap();
                assert_eq!(logits.len(), ours.len());
                for (ours, theirs) in ours.iter().zip(logits) {
                    let difference = (f64::from(*ours) - theirs.as_f64().unwrap()).abs();
                    assert!(difference < BOUND, "{name}: {difference}");
                }
            }
        }
    }
}

/// Writes the models that the fixtures are taken from to `target/export-models`; `fixtures/export/README.md` says how.
#[test]
#[ignore = "writes files for programs outside"]
fn models_for_the_fixtures() {
    for (name, shape) in model_names().into_iter().zip(shapes()) {
        for (layout, folder) in [(ExportLayout::Onnx, "onnx"), (ExportLayout::Baseline, "baseline")] {
            let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/export-models").join(folder).join(name);
            exported(&shape, &options(layout, ExportType::F32), &out);
        }
    }
}
