//! Buffers for bytes on their way to a client, used again when they are sent.
//!
//! A piece of a file is taken on one thread and given back on another, thousands of times a second. Left to the allocator,
//! each thread keeps what it freed, and the memory of a busy server grows to many times of what is under way.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// The most that is read at once: a few system calls for each megabyte, and still in the processor's cache when it is sent.
pub(super) const BUFFER_BYTES: usize = 128 * 1024;
/// Up to here a buffer is made as large as it has to be, and left to the allocator: thousands of clients that wait for small
/// files must not take a large one each.
pub(super) const SMALL_BYTES: usize = 32 * 1024;
/// Those that are kept while nobody needs them: 4 MiB.
const IDLE_BUFFERS: usize = 32;

/// Large ones that nobody uses.
static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Room for some bytes.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

/// A buffer that was filled.
struct Filled(Buffer);

impl Buffer {
    /// Room for this many bytes, at most [`BUFFER_BYTES`].
    pub(super) fn of(length: usize) -> Self {
        let length = length.min(BUFFER_BYTES);
        if length <= SMALL_BYTES {
            return Self { bytes: vec![0; length], length };
        }
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { bytes: idle.unwrap_or_else(|| vec![0; BUFFER_BYTES]), length }
    }

    /// The room, with anything in it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// The bytes, after the room was filled. The buffer comes back when the last of them is dropped.
    pub(super) fn into_bytes(mut self) -> Bytes {
        if self.bytes.len() == BUFFER_BYTES {
            Bytes::from_owner(Filled(self))
        } else {
            Bytes::from(std::mem::take(&mut self.bytes))
        }
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes[..self.0.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() != BUFFER_BYTES {
            return;
        }
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_BUFFERS {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_was_written_into_the_room() {
        for length in [0, 1, SMALL_BYTES, SMALL_BYTES + 1, BUFFER_BYTES] {
            for round in 1..=3 {
                let mut buffer = Buffer::of(length);
                assert_eq!(buffer.room().len(), length);
                buffer.room().fill(round);
                let bytes = buffer.into_bytes();
                let part = bytes.slice(length / 2..);
                drop(bytes);
                assert!(part.len() == length - length / 2 && part.iter().all(|byte| *byte == round));
            }
        }
        assert_eq!(Buffer::of(usize::MAX).room().len(), BUFFER_BYTES);
    }

    #[test]
    fn idle_buffers_are_bounded() {
        let many: Vec<Bytes> = (0..IDLE_BUFFERS * 3).map(|_| Buffer::of(BUFFER_BYTES).into_bytes()).collect();
        drop(many);
        assert!(IDLE.lock().unwrap().len() <= IDLE_BUFFERS);
    }
}
