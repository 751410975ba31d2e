//! The bytes of RouterOS's binary API: words with their length in front, sentences of words.
//!
//! A sentence ends with a word of length 0. A length takes one to five bytes; a first byte from
//! `0xF8` on is reserved for control, and RouterOS sends none. Source: the manual's page "API".

use std::fmt;

/// The longest word that is written or read, in bytes. The longest that the router has for this
/// program are comments and lists of policies.
pub const WORD_BYTES_MAX: usize = 256 << 10;
/// The longest sentence that is read, in bytes of its words.
pub const SENTENCE_BYTES_MAX: usize = 1 << 20;
/// The most words of a sentence that is read.
pub const WORDS_MAX: usize = 4096;

/// One sentence.
pub type Words = Vec<Vec<u8>>;

/// Why bytes are no sentence. What comes after them cannot be read either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A word begins with a reserved byte.
    ControlByte(u8),
    /// A word is longer than [`WORD_BYTES_MAX`]; this is its length.
    LongWord(usize),
    /// A sentence is longer than [`SENTENCE_BYTES_MAX`], or has more than [`WORDS_MAX`] words.
    LongSentence,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlByte(byte) => write!(f, "a word begins with the byte {byte:#04x}"),
            Self::LongWord(length) => write!(f, "a word of {length} bytes"),
            Self::LongSentence => f.write_str("an endless sentence"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Appends a length as the protocol spells it.
pub fn encode_length(length: u32, to: &mut Vec<u8>) {
    let [a, b, c, d] = length.to_be_bytes();
    match length {
        0..=0x7F => to.push(d),
        0x80..=0x3FFF => to.extend([c | 0x80, d]),
        0x4000..=0x1F_FFFF => to.extend([b | 0xC0, c, d]),
        0x20_0000..=0x0FFF_FFFF => to.extend([a | 0xE0, b, c, d]),
        0x1000_0000.. => to.extend([0xF0, a, b, c, d]),
    }
}

/// Reads the length at the beginning of some bytes. Returns it and how many bytes it takes, or
/// `None` when there are too few of them. A length may be spelt with more bytes than it needs.
///
/// # Errors
///
/// [`Malformed::ControlByte`].
pub fn decode_length(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (bits, size) = match first {
        0..=0x7F => (first, 1),
        0x80..=0xBF => (first & 0x3F, 2),
        0xC0..=0xDF => (first & 0x1F, 3),
        0xE0..=0xEF => (first & 0x0F, 4),
        0xF0..=0xF7 => (0, 5),
        0xF8.. => return Err(Malformed::ControlByte(first)),
    };
    let Some(rest) = bytes.get(1..size) else { return Ok(None) };
    let length = rest.iter().fold(u32::from(bits), |length, byte| length << 8 | u32::from(*byte));
    Ok(Some((length, size)))
}

/// Returns the bytes of a sentence.
///
/// # Errors
///
/// [`Malformed::LongWord`].
pub fn encode<W: AsRef<[u8]>>(words: &[W]) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    for word in words {
        let word = word.as_ref();
        let length = u32::try_from(word.len()).unwrap_or(u32::MAX);
        if word.len() > WORD_BYTES_MAX {
            return Err(Malformed::LongWord(word.len()));
        }
        encode_length(length, &mut bytes);
        bytes.extend_from_slice(word);
    }
    bytes.push(0);
    Ok(bytes)
}

/// Puts sentences together from bytes that arrive in pieces.
///
/// It keeps what has arrived and no more: a length that is announced reserves nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes that are no whole word yet.
    bytes: Vec<u8>,
    words: Words,
    sentence_bytes: usize,
}

impl Decoder {
    /// Takes bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next sentence once it is whole. Sentences without words are left out.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the decoder is of no use any more then.
    pub fn next_sentence(&mut self) -> Result<Option<Words>, Malformed> {
        let mut from = 0;
        let found = loop {
            match take_word(&self.bytes[from..])? {
                None => break None,
                Some((word, size)) => {
                    from += size;
                    if !word.is_empty() {
                        self.sentence_bytes += word.len();
                        self.words.push(word);
                        if self.sentence_bytes > SENTENCE_BYTES_MAX || self.words.len() > WORDS_MAX
                        {
                            return Err(Malformed::LongSentence);
                        }
                    } else if !self.words.is_empty() {
                        self.sentence_bytes = 0;
                        break Some(std::mem::take(&mut self.words));
                    }
                }
            }
        };
        self.bytes.drain(..from);
        Ok(found)
    }
}

/// Returns the first word and the bytes it takes with its length; `None` if it is not whole yet.
fn take_word(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let Some((length, size)) = decode_length(bytes)? else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > WORD_BYTES_MAX {
        return Err(Malformed::LongWord(length));
    }
    let word = bytes.get(size..size + length);
    Ok(word.map(|word| (word.to_vec(), size + length)))
}

#[cfg(test)]
#[path = "sentence_tests.rs"]
mod tests;
