//! A layer's attention and MLP. Queries, keys and values lie packed, a row a token, where the kept region is; gradients
//! likewise. Workspaces stay unused: kernels work in place.

use nanochat_plan::shape::VALUE_GATE_CHANNELS;
use nanochat_step::{Attention, Matrix, Op, QueryKeyValue, QueryKeyValueGradients, Region, WriteMode};

use super::embed::Rows;
use super::{GpuOps, ROW_THREADS, VECTOR, grid};
use crate::{AttentionCall, Device, DeviceError, Kernel};

impl<D: Device> GpuOps<D> {
    pub(super) fn layer(&mut self, op: &Op<'_>) -> Result<(), DeviceError> {
        match *op {
            Op::QueryKeyValue { layer, .. } => self.query_key_value(&layer),
            Op::Attend { shape, qkv, out, log_sum, .. } => {
                let call = self.attention(shape, qkv, out, log_sum);
                self.device.attend(&call)
            }
            Op::AttendBackward { shape, qkv, attended, log_sum, dattended, dqkv, .. } => {
                let call = self.attention(shape, qkv, attended, log_sum);
                let [dattended, dqkv] = [dattended, dqkv].map(|region| self.memory.at(region));
                self.device.attend_backward(&call, dattended, dqkv)
            }
            Op::QueryKeyValueBackward { layer, dqkv, gradients, .. } => {
                self.query_key_value_backward(&layer, dqkv, &gradients)
            }
            Op::MlpOutput { hidden, weight, out, .. } => {
                let arguments = [self.at(hidden), hidden.len as u64];
                self.launch(Kernel::Square, grid(hidden.len / VECTOR), ROW_THREADS, &arguments)?;
                let squares = Matrix::new(hidden, hidden.len / weight.columns, weight.columns);
                self.product(squares, weight.transposed(), out, WriteMode::Accumulate)
            }
            Op::MlpOutputBackward { dout, hidden, weight, dhidden, dweight, .. } => {
                let tokens = hidden.len / weight.columns;
                let (squares, dout) =
                    (Matrix::new(hidden, tokens, weight.columns), Matrix::new(dout, tokens, weight.rows));
                self.product(dout, weight, dhidden, WriteMode::Overwrite)?;
                self.product(dout.transposed(), squares, dweight, WriteMode::Accumulate)?;
                let arguments = [self.at(hidden), self.at(dhidden), hidden.len as u64];
                self.launch(Kernel::SquareBackward, grid(hidden.len / VECTOR), ROW_THREADS, &arguments)
            }
            _ => unreachable!("operations of a layer alone come here"),
        }
    }

    fn attention(&self, shape: Attention, qkv: Region, out: Region, log_sum: Region) -> AttentionCall {
        let [qkv, out, log_sum] = [qkv, out, log_sum].map(|region| self.memory.at(region));
        AttentionCall { shape, dtype: self.memory.storage, qkv, out, log_sum }
    }

    fn query_key_value(&mut self, layer: &QueryKeyValue) -> Result<(), DeviceError> {
        let x = Matrix::new(layer.x, self.tokens, layer.width);
        self.product(x, joined(layer)?.transposed(), layer.qkv, WriteMode::Overwrite)?;
        let places = self.batch.places();
        let [cosines, sines, inverse_q, inverse_k] =
            [layer.angles[0], layer.angles[1], layer.inverses[0], layer.inverses[1]].map(|region| self.at(region));
        let mix = layer.mix.map(|mix| [self.at(mix.gate), self.memory.operand(mix.table).0, self.at(mix.sigma)]);
        let [gate, table, sigma] = mix.unwrap_or_default();
        let (x, ids) = (self.at(layer.x), self.batch_at(places.ids));
        let (queries, keys) = (layer.queries, layer.keys);
        let sizes = [self.tokens, keys.length, layer.width, queries.count, keys.count, keys.size, VALUE_GATE_CHANNELS];
        let pointers = [self.at(layer.qkv), cosines, sines, inverse_q, inverse_k, x, gate, table, ids, sigma];
        let arguments = [&pointers[..], &sizes.map(|size| size as u64)].concat();
        self.launch_rows(Kernel::Heads, self.turned_heads(layer), &arguments)
    }

    /// Heads of all tokens that a kernel works on: values only where something is added to them.
    fn turned_heads(&self, layer: &QueryKeyValue) -> usize {
        let values = if layer.mix.is_some() { layer.keys.count } else { 0 };
        self.tokens * (layer.queries.count + layer.keys.count + values)
    }

    fn query_key_value_backward(
        &mut self,
        layer: &QueryKeyValue,
        dqkv: Region,
        gradients: &QueryKeyValueGradients,
    ) -> Result<(), DeviceError> {
        let places = self.batch.places();
        let [cosines, sines, inverse_q, inverse_k] =
            [layer.angles[0], layer.angles[1], layer.inverses[0], layer.inverses[1]].map(|region| self.at(region));
        let mix = layer.mix.map(|mix| [self.memory.operand(mix.table).0, self.at(mix.sigma)]);
        let [table, sigma] = mix.unwrap_or_default();
        let gates = gradients.mix.map_or(0, |mix| self.at(mix.gates));
        let (queries, keys) = (layer.queries, layer.keys);
        let ids = self.batch_at(places.ids);
        let pointers =
            [self.at(dqkv), self.at(layer.qkv), cosines, sines, inverse_q, inverse_k, table, ids, sigma, gates];
        let sizes = [self.tokens, keys.length, queries.count, keys.count, keys.size];
        let arguments = [&pointers[..], &sizes.map(|size| size as u64)].concat();
        self.launch_rows(Kernel::HeadsBackward, self.turned_heads(layer), &arguments)?;

        let weight = joined(layer)?;
        let (dy, x) = (Matrix::new(dqkv, self.tokens, weight.rows), Matrix::new(layer.x, self.tokens, layer.width));
        let [first, ..] = gradients.dweights;
        let dweight = Region { len: weight.region.len, ..first };
        self.product(dy.transposed(), x, dweight, WriteMode::Accumulate)?;
        self.product(dy, weight, gradients.dx, WriteMode::Overwrite)?;
        if let (Some(mix), Some(into)) = (layer.mix, gradients.mix) {
            let gate = self.at(mix.gate);
            let sizes = [self.tokens, layer.width, keys.count, VALUE_GATE_CHANNELS].map(|size| size as u64);
            let arguments = [&[gates, gate, self.at(gradients.dx)][..], &sizes].concat();
            let elements = self.tokens * VALUE_GATE_CHANNELS;
            self.launch(Kernel::GateInput, grid(elements), ROW_THREADS, &arguments)?;
            self.gate_gradient(into.gates, layer.x, layer.width, keys.count, into.dgate)?;
            let values = (queries.count + keys.count) * keys.size;
            let rows = Rows {
                at: self.memory.at(dqkv.part(values, 0)).0,
                stride: weight.rows,
                width: keys.count * keys.size,
                gates: Some((mix.sigma, keys.size)),
            };
            self.sum_rows(rows, into.dtable)?;
        }
        Ok(())
    }
}

/// The projections as one matrix.
fn joined(layer: &QueryKeyValue) -> Result<Matrix, DeviceError> {
    layer.joined_weights().ok_or_else(|| DeviceError::Shape {
        what: format!("projections of {:?} elements with gaps between them", layer.weights.map(|w| w.region.len)),
    })
}
