//! Runs of bytes within one page, for string instructions at memcpy speed.

use crate::access::MemStop;
use crate::mmu::Mmu;
use crate::{OFFSET, PAGE};

/// Bytes of RAM within one page, translated and checked for reading or writing.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    host: usize,
    pa: u64,
    len: u32,
    write: bool,
}

impl Span {
    /// How many bytes it has; at least 1.
    #[allow(clippy::len_without_is_empty)]
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The same span, cut to at most `len` bytes.
    #[inline(always)]
    pub fn cut(mut self, len: u32) -> Span {
        self.len = self.len.min(len);
        self
    }
}

impl Mmu {
    /// The bytes from `va` to the end of its page, at most `max`, for reading.
    ///
    /// # Errors
    /// See [`MemStop`]; never [`MemStop::Split`].
    pub fn span_read(&mut self, va: u64, max: u32) -> Result<Span, MemStop> {
        self.span(va, max, false)
    }

    /// Likewise for writing.
    ///
    /// # Errors
    /// See [`MemStop`]; never [`MemStop::Split`].
    pub fn span_write(&mut self, va: u64, max: u32) -> Result<Span, MemStop> {
        self.span(va, max, true)
    }

    fn span(&mut self, va: u64, max: u32, write: bool) -> Result<Span, MemStop> {
        self.touch(va, 1, write);
        let found = self.translate(self.kind, va, write)?;
        if found.host == 0 {
            return Err(MemStop::Device { pa: found.pa });
        }
        Ok(Span {
            host: found.host,
            pa: found.pa,
            len: max.min((PAGE - (va & OFFSET)) as u32),
            write,
        })
    }

    /// What every write to a span does first.
    fn begin_write(&mut self, dst: &Span, n: u32) {
        assert!(dst.write && n <= dst.len, "a span for writing, long enough");
        if self.logging {
            self.undo.store(&self.ram, dst.pa, n as usize);
        }
    }

    /// Copies `n` bytes forward in elements of `step` (1, 2, 4 or 8) bytes, as MOVS with DF clear does: where the spans overlap so that
    /// an element reads what an earlier one wrote, it does.
    ///
    /// # Panics
    /// If a span is shorter than `n` or `dst` is not for writing.
    pub fn copy(&mut self, dst: &Span, src: &Span, n: u32, step: u32) {
        assert!(n <= src.len, "long enough");
        self.begin_write(dst, n);
        let (d, s, len) = (dst.host, src.host, n as usize);
        if d > s && d < s + len {
            for at in (0..len).step_by(step as usize) {
                let mut element = [0u8; 8];
                // SAFETY: both spans are RAM for `n` bytes, of which `step` at `at` are a part; `element` is apart from guest memory.
                unsafe {
                    let e = element.as_mut_ptr();
                    std::ptr::copy_nonoverlapping((s + at) as *const u8, e, step as usize);
                    std::ptr::copy_nonoverlapping(e, (d + at) as *mut u8, step as usize);
                }
            }
        } else {
            // SAFETY: both spans are RAM for `n` bytes (`translate`), and `copy` allows overlap.
            unsafe { std::ptr::copy(s as *const u8, d as *mut u8, len) };
        }
        self.ram.note_write(dst.pa, u64::from(n));
    }

    /// Stores `count` elements of `step` (1, 2, 4 or 8) bytes, as STOS does.
    ///
    /// # Panics
    /// If the span is shorter or not for writing.
    pub fn fill(&mut self, dst: &Span, value: u64, step: u32, count: u32) {
        self.begin_write(dst, count * step);
        let d = dst.host;
        // SAFETY: the span is writable RAM for `count * step` bytes; elements may be unaligned.
        unsafe {
            match step {
                1 => std::ptr::write_bytes(d as *mut u8, value as u8, count as usize),
                2 => (0..count as usize)
                    .for_each(|i| (d as *mut u16).add(i).write_unaligned(value as u16)),
                4 => (0..count as usize)
                    .for_each(|i| (d as *mut u32).add(i).write_unaligned(value as u32)),
                _ => {
                    (0..count as usize).for_each(|i| (d as *mut u64).add(i).write_unaligned(value))
                }
            }
        }
        self.ram.note_write(dst.pa, u64::from(count * step));
    }

    /// Copies the head of a span out, for SCAS, CMPS and OUTS.
    pub fn read_span(&mut self, src: &Span, bytes: &mut [u8]) {
        let n = bytes.len().min(src.len as usize);
        // SAFETY: the span is RAM for `len` bytes, and no Rust reference overlaps guest memory.
        unsafe { std::ptr::copy_nonoverlapping(src.host as *const u8, bytes.as_mut_ptr(), n) };
    }

    /// Copies bytes to the head of a span, for INS.
    ///
    /// # Panics
    /// If the span is shorter or not for writing.
    pub fn write_span(&mut self, dst: &Span, bytes: &[u8]) {
        self.begin_write(dst, bytes.len() as u32);
        // SAFETY: as in `read_span`, for writing.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), dst.host as *mut u8, bytes.len()) };
        self.ram.note_write(dst.pa, bytes.len() as u64);
    }
}
