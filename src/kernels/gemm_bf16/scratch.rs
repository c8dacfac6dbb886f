//! Memory for packed operands: aligned to cache lines, in huge pages where the system gives them, reused by the thread.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

/// Bytes aligned for tiles and vectors, zero at first. Grows, and never shrinks.
pub(super) struct Bytes {
    start: NonNull<u8>,
    layout: Option<Layout>,
}

// SAFETY: Bytes owns its allocation alone, as Vec<u8> does; shared access gives only `&[T]`.
unsafe impl Send for Bytes {}
// SAFETY: as above; nothing changes through a shared reference.
unsafe impl Sync for Bytes {}

/// From this size on the buffer is aligned to a huge page, and huge pages are asked for.
const HUGE_PAGE: usize = 2 << 20;
const CACHE_LINE: usize = 64;

impl Bytes {
    pub const fn new() -> Self {
        Bytes { start: NonNull::dangling(), layout: None }
    }

    pub fn len(&self) -> usize {
        self.layout.map_or(0, |layout| layout.size())
    }

    /// Makes at least `bytes` bytes available; what they held before is lost when the buffer grows.
    pub fn reserve(&mut self, bytes: usize) {
        if bytes <= self.len() {
            return;
        }
        let alignment = if bytes >= HUGE_PAGE / 2 { HUGE_PAGE } else { CACHE_LINE };
        let size = bytes.next_multiple_of(alignment);
        let layout = Layout::from_size_align(size, alignment).expect("a size below isize::MAX");
        self.release();
        // SAFETY: the layout's size isn't zero, since `bytes` exceeds the length held.
        let start = unsafe { alloc(layout) };
        self.start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        self.layout = Some(layout);
        // Before the first touch: pages that are there already stay small.
        advise_huge_pages(self.start, layout);
        // SAFETY: the allocation just made is `size` bytes long.
        unsafe { self.start.as_ptr().write_bytes(0, size) };
    }

    pub fn as_ptr<T>(&self) -> *const T {
        self.start.as_ptr().cast()
    }

    pub fn as_mut_ptr<T>(&mut self) -> *mut T {
        self.start.as_ptr().cast()
    }

    fn release(&mut self) {
        if let Some(layout) = self.layout.take() {
            // SAFETY: `start` came from the allocator with this layout, and is forgotten here.
            unsafe { dealloc(self.start.as_ptr(), layout) };
            self.start = NonNull::dangling();
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.release();
    }
}

/// Advice only: a system that refuses leaves ordinary pages, and the result is the same.
fn advise_huge_pages(start: NonNull<u8>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() == HUGE_PAGE {
        // SAFETY: the range is this buffer's own, page-aligned at both ends, and the advice doesn't change its bytes.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, layout);
}

/// What one task of a product needs beside its operands.
pub(super) struct Scratch {
    /// The packed block of A.
    pub a: Bytes,
    /// The packed block of B, where B wasn't packed ahead.
    pub b: Bytes,
    /// A panel of B widened to f32, for kernels that multiply in f32.
    pub widened: Bytes,
    /// The sums of a tile at the output's edge.
    pub sums: Bytes,
}

thread_local! {
    static SCRATCH: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's scratch to `work`; a product inside a product on the same thread gets a second one.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let fresh = || Scratch { a: Bytes::new(), b: Bytes::new(), widened: Bytes::new(), sums: Bytes::new() };
    let mut scratch = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_else(fresh);
    let result = work(&mut scratch);
    SCRATCH.with_borrow_mut(|kept| kept.push(scratch));
    result
}

thread_local! {
    static SHARED: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// Lends memory of this thread for an operand that all tasks of a product share; a product inside a product gets another.
pub(super) fn with_shared<R>(bytes: usize, work: impl FnOnce(&mut Bytes) -> R) -> R {
    let mut memory = SHARED.with_borrow_mut(Vec::pop).unwrap_or_else(Bytes::new);
    memory.reserve(bytes);
    let result = work(&mut memory);
    SHARED.with_borrow_mut(|kept| kept.push(memory));
    result
}
