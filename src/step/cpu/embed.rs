//! Embedding and smear, forward and backward.

use nanochat_kernels::{Stored, embedding, norm, smear};

use super::Cpu;
use crate::ops::{Region, Smear};

impl<S: Stored> Cpu<S> {
    /// `out` holds the gathered rows until they are smeared.
    pub(super) fn embed(
        &mut self,
        table: Region,
        smear: Smear,
        [embedded, inverse]: [Region; 2],
        [out, sigma]: [Region; 2],
    ) {
        let Smear { gate, lambda, length, width } = smear;
        let table = self.memory.read(table);
        embedding::gather(table, bytemuck::cast_slice(&self.ids), width, self.activations.write(out));
        let ([normed], [gathered]) = self.activations.split([embedded], [out]);
        norm::forward(gathered, width, normed, self.memory.write(inverse));
        let lambda = self.scalar(lambda);
        let ([out], [embedded]) = self.activations.split([out], [embedded]);
        let ([sigma], [gate]) = self.memory.split([sigma], [gate]);
        smear::forward(embedded, smear::Smear { length, width, gate, lambda }, out, sigma);
    }

    pub(super) fn smear_backward(
        &mut self,
        [dx, embedded, sigma]: [Region; 3],
        smear: Smear,
        [dembedded, dgate, slopes]: [Region; 3],
        dlambda: Region,
    ) {
        let Smear { gate, lambda, length, width } = smear;
        let lambda = self.scalar(lambda);
        let ([dembedded], [dx, embedded]) = self.activations.split([dembedded], [dx, embedded]);
        let ([dgate, slopes], [sigma, gate]) = self.memory.split([dgate, slopes], [sigma, gate]);
        let smear = smear::Smear { length, width, gate, lambda };
        let slope = smear::backward(dx, embedded, smear, sigma, dembedded, dgate, slopes);
        self.gain(dlambda, slope);
    }

    /// Adds rows to those of a table that the batch's ids name, in the order of the batch.
    pub(super) fn scatter_add(&mut self, rows: Region, width: usize, table: Region) {
        let (table, rows) = (self.memory.write(table), self.activations.read(rows));
        embedding::scatter_add(rows, bytemuck::cast_slice(&self.ids), width, table);
    }
}
