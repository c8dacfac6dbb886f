//! Builds a graph node by node. Values refer to each other by name; equal constants are written once.

use std::collections::BTreeMap;

use super::proto::{
    Attribute, Dimension, Graph, Node, Shape, TensorData, TensorType, Type, ValueInfo, attribute, element,
};

/// The name of a value of the graph.
pub type Value = String;

/// Size of an input's or output's dimension.
#[derive(Debug, Clone, Copy)]
pub enum Size {
    /// Always the same.
    Fixed(usize),
    /// Known when the graph runs, and equal wherever the name is.
    Named(&'static str),
}

/// A graph being built.
#[derive(Default)]
pub struct Builder {
    nodes: Vec<Node>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    constants: BTreeMap<String, TensorData>,
    /// Part of the model that names of nodes begin with.
    scope: String,
}

impl Builder {
    /// Names the part of the model that follows.
    pub fn enter(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, element: i32, sizes: &[Size]) -> Value {
        self.inputs.push(described(name, element, sizes));
        name.into()
    }

    /// Makes a value an output under a name of its own.
    pub fn output(&mut self, value: &Value, name: &str, element: i32, sizes: &[Size]) {
        self.push("Identity", &[value], Vec::new(), name.into());
        self.outputs.push(described(name, element, sizes));
    }

    /// Adds a node without attributes.
    pub fn node(&mut self, operation: &str, inputs: &[&Value]) -> Value {
        self.node_with(operation, inputs, Vec::new())
    }

    /// Adds a node with whole numbers as attributes.
    pub fn node_with(&mut self, operation: &str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        let output = format!("{}/{operation}_{}", self.scope, self.nodes.len());
        self.push(operation, inputs, attributes, output.clone());
        output
    }

    fn push(&mut self, operation: &str, inputs: &[&Value], attributes: Vec<Attribute>, output: Value) {
        self.nodes.push(Node {
            input: inputs.iter().map(|input| (*input).clone()).collect(),
            name: Some(output.clone()),
            output: vec![output],
            op_type: Some(operation.into()),
            attribute: attributes,
        });
    }

    /// A list of whole numbers, such as axes or sizes.
    pub fn numbers(&mut self, numbers: &[i64]) -> Value {
        let words: Vec<String> = numbers.iter().map(i64::to_string).collect();
        self.constant(
            format!("numbers/{}", words.join("_")),
            element::INT64,
            &[numbers.len()],
            numbers.iter().flat_map(|n| n.to_le_bytes()),
        )
    }

    /// One whole number without dimensions.
    pub fn number(&mut self, number: i64) -> Value {
        self.constant(format!("number/{number}"), element::INT64, &[], number.to_le_bytes())
    }

    /// One f32 without dimensions, which goes with tensors of any rank.
    pub fn scalar(&mut self, scalar: f32) -> Value {
        self.constant(format!("scalar/{scalar:e}"), element::FLOAT, &[], scalar.to_le_bytes())
    }

    /// A row of f32, (1, n).
    pub fn row(&mut self, name: &str, row: &[f32]) -> Value {
        self.constant(name.into(), element::FLOAT, &[1, row.len()], row.iter().flat_map(|value| value.to_le_bytes()))
    }

    fn constant(&mut self, name: String, element: i32, dims: &[usize], bytes: impl IntoIterator<Item = u8>) -> Value {
        self.constants.entry(name.clone()).or_insert_with(|| TensorData {
            dims: dims.iter().map(|size| *size as i64).collect(),
            data_type: Some(element),
            name: Some(name.clone()),
            raw_data: Some(bytes.into_iter().collect()),
            ..TensorData::default()
        });
        name
    }

    /// Entries `from..to` of an axis; negative ones count from the end.
    pub fn slice(&mut self, value: &Value, axis: i64, from: i64, to: i64) -> Value {
        let [from, to, axis] = [from, to, axis].map(|number| self.numbers(&[number]));
        self.node("Slice", &[value, &from, &to, &axis])
    }

    /// Joins values along an axis.
    pub fn concatenate(&mut self, values: &[&Value], axis: i64) -> Value {
        self.node_with("Concat", values, vec![whole("axis", axis)])
    }

    /// Gives a value other sizes; 0 keeps the one in that place, −1 stands for the rest.
    pub fn reshape(&mut self, value: &Value, sizes: &[i64]) -> Value {
        let sizes = self.numbers(sizes);
        self.node("Reshape", &[value, &sizes])
    }

    /// Puts the dimensions in another order.
    pub fn transpose(&mut self, value: &Value, order: &[i64]) -> Value {
        let order = Attribute { name: Some("perm".into()), ints: order.to_vec(), kind: Some(attribute::INTS), i: None };
        self.node_with("Transpose", &[value], vec![order])
    }

    /// Adds a dimension of one entry.
    pub fn unsqueeze(&mut self, value: &Value, axis: i64) -> Value {
        let axis = self.numbers(&[axis]);
        self.node("Unsqueeze", &[value, &axis])
    }

    /// The size of a dimension, as a number without dimensions.
    pub fn size(&mut self, value: &Value, axis: i64) -> Value {
        let sizes = self.node("Shape", &[value]);
        let axis = self.number(axis);
        self.node("Gather", &[&sizes, &axis])
    }

    /// Converts to f32.
    pub fn widen(&mut self, value: &Value) -> Value {
        self.node_with("Cast", &[value], vec![whole("to", i64::from(element::FLOAT))])
    }

    /// The graph with its constants; the caller adds the weights.
    pub fn finish(self, name: &str) -> Graph {
        Graph {
            node: self.nodes,
            name: Some(name.into()),
            initializer: self.constants.into_values().collect(),
            input: self.inputs,
            output: self.outputs,
        }
    }
}

/// A whole number as an attribute.
pub fn whole(name: &str, number: i64) -> Attribute {
    Attribute { name: Some(name.into()), i: Some(number), kind: Some(attribute::INT), ints: Vec::new() }
}

fn described(name: &str, element: i32, sizes: &[Size]) -> ValueInfo {
    let dim = sizes.iter().map(|size| match size {
        Size::Fixed(size) => Dimension { dim_value: Some(*size as i64), dim_param: None },
        Size::Named(name) => Dimension { dim_value: None, dim_param: Some((*name).into()) },
    });
    let tensor = TensorType { elem_type: Some(element), shape: Some(Shape { dim: dim.collect() }) };
    ValueInfo { name: Some(name.into()), kind: Some(Type { tensor: Some(tensor) }) }
}
