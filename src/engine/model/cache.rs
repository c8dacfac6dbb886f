//! Keys and values of the tokens that were seen already, for decoding.

use candle_core::{DType, Device, Tensor};

use super::ModelError;
use super::inference::{Buffers, Row};
use nanochat_plan::ModelShape;
use nanochat_plan::shape::head_dim;

/// Keys and values of all layers for a batch of rows.
#[derive(Debug)]
pub struct KvCache {
    store: Store,
    /// What the kernels' passes over it work on; empty before the first.
    buffers: Buffers,
}

/// Where a cache's elements lie.
#[derive(Debug)]
pub(super) enum Store {
    /// For the kernels: pages, row by row.
    Paged(Vec<Row>),
    /// For the reference operations.
    Tensors(Tensors),
}

/// Buffers (B, capacity, G, D) a layer for rows of equal length; they grow by doubling, and what lies past `length` is unused.
#[derive(Debug)]
pub(super) struct Tensors {
    layers: Vec<[Tensor; 2]>,
    length: usize,
    capacity: usize,
    /// The tokens of each row, the last of which is smeared into the next one.
    tokens: Vec<Vec<u32>>,
}

impl KvCache {
    /// An empty cache for the kernels.
    pub(super) fn paged(shape: &ModelShape, rows: usize, capacity: usize) -> Self {
        Self::of(Store::Paged(vec![Row::new(shape, capacity); rows]))
    }

    /// An empty cache for the reference operations, with room for `capacity` tokens (at least one) in each of `rows`.
    pub(super) fn tensors(
        shape: &ModelShape,
        rows: usize,
        capacity: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let capacity = capacity.max(1);
        let dims = (rows, capacity, shape.n_kv_head, head_dim(shape));
        let zeros = || Tensor::zeros(dims, dtype, device);
        let layers = (0..shape.n_layer).map(|_| Ok([zeros()?, zeros()?])).collect::<Result<_, candle_core::Error>>()?;
        Ok(Self::of(Store::Tensors(Tensors { layers, length: 0, capacity, tokens: vec![Vec::new(); rows] })))
    }

    fn of(store: Store) -> Self {
        Self { store, buffers: Buffers::default() }
    }

    pub(super) fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Where its elements lie, and what passes over it work on.
    pub(super) fn parts_mut(&mut self) -> (&mut Store, &mut Buffers) {
        (&mut self.store, &mut self.buffers)
    }

    /// Exchanges what passes over it work on, so that one cache after the other can use the same memory.
    pub(super) fn exchange(&mut self, buffers: &mut Buffers) {
        std::mem::swap(&mut self.buffers, buffers);
    }

    /// The tokens held, by row.
    pub fn tokens(&self) -> Vec<&[u32]> {
        match &self.store {
            Store::Paged(rows) => rows.iter().map(Row::tokens).collect(),
            Store::Tensors(tensors) => tensors.tokens.iter().map(Vec::as_slice).collect(),
        }
    }

    /// Tokens held by the longest row.
    pub fn len(&self) -> usize {
        self.tokens().into_iter().map(<[u32]>::len).max().unwrap_or_default()
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        match &self.store {
            Store::Paged(rows) => rows.len(),
            Store::Tensors(tensors) => tensors.tokens.len(),
        }
    }

    /// Forgets all but the first `length` tokens of each row, so that another continuation can follow them. For the kernels,
    /// layers keep but what their windows see: cutting back further than that is an error, unless to nothing.
    pub fn truncate(&mut self, length: usize) -> Result<(), ModelError> {
        if length > self.len() {
            return Err(ModelError::CacheLength { length: self.len(), wanted: length });
        }
        match &mut self.store {
            Store::Paged(rows) => {
                if !rows.iter().all(|row| row.reaches(length)) {
                    return Err(ModelError::CacheWindow { wanted: length });
                }
                rows.iter_mut().for_each(|row| row.truncate(length));
            }
            Store::Tensors(tensors) => {
                tensors.length = length;
                tensors.tokens.iter_mut().for_each(|row| row.truncate(length));
            }
        }
        Ok(())
    }

    /// Lets rows go: only those stay, in their order, for which `stays` says so by their number.
    pub fn retain(&mut self, mut stays: impl FnMut(usize) -> bool) -> Result<(), ModelError> {
        match &mut self.store {
            Store::Paged(rows) => {
                let mut number = 0..;
                rows.retain(|_| number.next().is_some_and(&mut stays));
                Ok(())
            }
            Store::Tensors(tensors) => tensors.retain(stays),
        }
    }

    /// Adds another cache's rows after this one's. Where the reference operations work, all rows must be equally long.
    pub fn join(&mut self, other: Self) -> Result<(), ModelError> {
        match (&mut self.store, other.store) {
            (Store::Paged(rows), Store::Paged(others)) => {
                rows.extend(others);
                Ok(())
            }
            (Store::Tensors(tensors), Store::Tensors(others)) => tensors.join(others),
            _ => Err(ModelError::ForeignCache),
        }
    }

    /// A cache of `rows` rows that all continue the only row of this one, with room for `capacity` tokens. For the kernels
    /// what is held is shared, not copied.
    pub fn repeat(&self, rows: usize, capacity: usize) -> Result<Self, ModelError> {
        if self.rows() != 1 {
            return Err(ModelError::CacheRows { batch: 1, cache: self.rows() });
        }
        let store = match &self.store {
            Store::Paged(held) => {
                Store::Paged(held.iter().flat_map(|row| (0..rows).map(|_| row.branch(capacity))).collect())
            }
            Store::Tensors(tensors) => Store::Tensors(tensors.repeat(rows, capacity)?),
        };
        Ok(Self::of(store))
    }
}

impl Tensors {
    fn repeat(&self, rows: usize, capacity: usize) -> Result<Self, ModelError> {
        let capacity = capacity.max(self.length).max(1);
        let copy = |buffer: &Tensor| -> Result<Tensor, candle_core::Error> {
            let (_, _, groups, head_dim) = buffer.dims4()?;
            let wide = Tensor::zeros((rows, capacity, groups, head_dim), buffer.dtype(), buffer.device())?;
            if self.length > 0 {
                let held = buffer.narrow(1, 0, self.length)?;
                wide.slice_set(&held.broadcast_as((rows, self.length, groups, head_dim))?.contiguous()?, 1, 0)?;
            }
            Ok(wide)
        };
        let layers = (self.layers.iter())
            .map(|[keys, values]| Ok([copy(keys)?, copy(values)?]))
            .collect::<Result<_, candle_core::Error>>()?;
        let tokens = self.tokens.first().cloned().unwrap_or_default();
        Ok(Self { layers, length: self.length, capacity, tokens: vec![tokens; rows] })
    }

    fn retain(&mut self, mut stays: impl FnMut(usize) -> bool) -> Result<(), ModelError> {
        let kept: Vec<u32> = (0..self.tokens.len() as u32).filter(|row| stays(*row as usize)).collect();
        if kept.len() == self.tokens.len() {
            return Ok(());
        }
        self.tokens = kept.iter().map(|row| self.tokens[*row as usize].clone()).collect();
        for buffer in self.layers.iter_mut().flatten() {
            let rows = Tensor::new(kept.as_slice(), buffer.device())?;
            *buffer = buffer.index_select(&rows, 0)?;
        }
        Ok(())
    }

    fn join(&mut self, other: Self) -> Result<(), ModelError> {
        if other.length != self.length {
            return Err(ModelError::Ragged);
        }
        let capacity = self.capacity.min(other.capacity);
        for (buffer, more) in self.layers.iter_mut().flatten().zip(other.layers.iter().flatten()) {
            *buffer = Tensor::cat(&[buffer.narrow(1, 0, capacity)?, more.narrow(1, 0, capacity)?], 0)?;
        }
        self.capacity = capacity;
        self.tokens.extend(other.tokens);
        Ok(())
    }

    /// Tokens held, the same in every row.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The last token of each row; none while empty.
    pub(super) fn last_tokens(&self) -> Option<Vec<u32>> {
        self.tokens.iter().map(|row| row.last().copied()).collect()
    }

    /// Makes room for `count` more tokens.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), ModelError> {
        let needed = self.length + count;
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.max(2 * self.capacity);
        for buffer in self.layers.iter_mut().flatten() {
            let (rows, _, groups, head_dim) = buffer.dims4()?;
            let larger = Tensor::zeros((rows, capacity, groups, head_dim), buffer.dtype(), buffer.device())?;
            larger.slice_set(buffer, 1, 0)?;
            *buffer = larger;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Stores a layer's new keys and values (B, T, G, D) after the held ones, and gives back all of them (B, S, G, D).
    /// Room must have been reserved; the length changes only by [`Tensors::advance`].
    pub(super) fn store(
        &mut self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor), candle_core::Error> {
        let [key_buffer, value_buffer] = &self.layers[layer];
        key_buffer.slice_set(&keys.contiguous()?, 1, self.length)?;
        value_buffer.slice_set(&values.contiguous()?, 1, self.length)?;
        let total = self.length + keys.dim(1)?;
        Ok((key_buffer.narrow(1, 0, total)?, value_buffer.narrow(1, 0, total)?))
    }

    /// Counts the tokens that all layers have stored.
    pub(super) fn advance(&mut self, ids: &[Vec<u32>]) {
        for (row, new) in self.tokens.iter_mut().zip(ids) {
            row.extend_from_slice(new);
        }
        self.length += ids.first().map_or(0, Vec::len);
    }
}
