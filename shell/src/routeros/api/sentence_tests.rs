use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Lengths on both sides of every change of form, with the bytes of the manual's table.
const FORMS: [(u32, &[u8]); 10] = [
    (0, &[0]),
    (0x7F, &[0x7F]),
    (0x80, &[0x80, 0x80]),
    (0x3FFF, &[0xBF, 0xFF]),
    (0x4000, &[0xC0, 0x40, 0x00]),
    (0x1F_FFFF, &[0xDF, 0xFF, 0xFF]),
    (0x20_0000, &[0xE0, 0x20, 0x00, 0x00]),
    (0x0FFF_FFFF, &[0xEF, 0xFF, 0xFF, 0xFF]),
    (0x1000_0000, &[0xF0, 0x10, 0x00, 0x00, 0x00]),
    (u32::MAX, &[0xF0, 0xFF, 0xFF, 0xFF, 0xFF]),
];

#[test]
fn lengths_are_spelt_as_in_the_manual() {
    for (length, expected) in FORMS {
        let mut bytes = Vec::new();
        encode_length(length, &mut bytes);
        assert_eq!(bytes, expected, "{length:#x}");
        assert_eq!(decode_length(expected), Ok(Some((length, expected.len()))), "{length:#x}");
        for cut in 0..expected.len() {
            assert_eq!(decode_length(&expected[..cut]), Ok(None), "{length:#x} cut at {cut}");
        }
    }
}

#[test]
fn a_sentence_is_its_words_and_an_empty_one() {
    let bytes = encode(&["/login", "=name=a"]).unwrap();
    assert_eq!(bytes, b"\x06/login\x07=name=a\x00");
}

#[test]
fn reserved_bytes_and_absurd_lengths_are_refused_before_anything_is_kept() {
    for byte in 0xF8..=0xFF {
        let mut decoder = Decoder::default();
        decoder.push(&[byte]);
        assert_eq!(decoder.next_sentence(), Err(Malformed::ControlByte(byte)));
    }
    let long = u32::try_from(WORD_BYTES_MAX + 1).unwrap();
    for length in [long, 0x0FFF_FFFF, u32::MAX] {
        let mut bytes = Vec::new();
        encode_length(length, &mut bytes);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let refused = Err(Malformed::LongWord(usize::try_from(length).unwrap()));
        assert_eq!(decoder.next_sentence(), refused);
        assert!(decoder.bytes.capacity() < 64 && decoder.words.capacity() == 0);
    }
    assert_eq!(
        encode(&[vec![b'x'; WORD_BYTES_MAX + 1]]),
        Err(Malformed::LongWord(WORD_BYTES_MAX + 1))
    );
}

#[test]
fn a_word_that_is_announced_reserves_nothing() {
    let mut bytes = Vec::new();
    encode_length(u32::try_from(WORD_BYTES_MAX).unwrap(), &mut bytes);
    let mut decoder = Decoder::default();
    decoder.push(&bytes);
    decoder.push(b"=comment=");
    assert_eq!(decoder.next_sentence(), Ok(None));
    assert!(decoder.bytes.capacity() < 64, "{}", decoder.bytes.capacity());
}

#[test]
fn endless_sentences_are_refused() {
    let mut many = Decoder::default();
    many.push(&b"\x01x".repeat(WORDS_MAX));
    assert_eq!(many.next_sentence(), Ok(None));
    many.push(b"\x01x");
    assert_eq!(many.next_sentence(), Err(Malformed::LongSentence));
    let mut word = encode(&[vec![b'x'; WORD_BYTES_MAX]]).unwrap();
    word.pop();
    let mut long = Decoder::default();
    let words = SENTENCE_BYTES_MAX / WORD_BYTES_MAX;
    for _ in 0..words {
        long.push(&word);
        assert_eq!(long.next_sentence(), Ok(None));
    }
    long.push(b"\x01x");
    assert_eq!(long.next_sentence(), Err(Malformed::LongSentence));
}

#[test]
fn sentences_without_words_are_left_out() {
    let mut decoder = Decoder::default();
    decoder.push(b"\0\0\x05!done\0\0");
    assert_eq!(decoder.next_sentence(), Ok(Some(vec![b"!done".to_vec()])));
    assert_eq!(decoder.next_sentence(), Ok(None));
}

/// Bytes that come in pieces; what is read from them, and the first refusal.
fn decode(pieces: &[&[u8]]) -> (Vec<Words>, Option<Malformed>) {
    let mut decoder = Decoder::default();
    let mut sentences = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_sentence() {
                Ok(Some(words)) => sentences.push(words),
                Ok(None) => break,
                Err(malformed) => return (sentences, Some(malformed)),
            }
        }
    }
    (sentences, None)
}

/// Words of every form that may be read: up to 3 bytes of length. Longer ones are refused.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        8 => 1..0x90_usize,
        3 => 0x3FF0..0x4010_usize,
        1 => Just(WORD_BYTES_MAX),
    ];
    (any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn every_length_is_read_as_it_was_written(length: u32, shift in 0_u32..32, more: u8) {
        let length = length >> shift;
        let mut bytes = Vec::new();
        encode_length(length, &mut bytes);
        let size = bytes.len();
        prop_assert_eq!(size, match length {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            0x4000..0x20_0000 => 3,
            0x20_0000..0x1000_0000 => 4,
            _ => 5,
        });
        bytes.push(more);
        prop_assert_eq!(decode_length(&bytes), Ok(Some((length, size))));
    }

    #[test]
    fn sentences_survive_any_tearing(
        sentences in vec(vec(word(), 1..4), 1..4),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let bytes: Vec<u8> = sentences.iter().flat_map(|words| encode(words).unwrap()).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode(&pieces), (sentences, None));
    }

    #[test]
    fn small_sentences_survive_one_byte_at_a_time(
        sentences in vec(vec(vec(any::<u8>(), 1..300), 1..4), 1..4),
    ) {
        let bytes: Vec<u8> = sentences.iter().flat_map(|words| encode(words).unwrap()).collect();
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decode(&pieces), (sentences, None));
    }

    #[test]
    fn any_bytes_are_read_the_same_however_they_are_torn(
        bytes in vec(any::<u8>(), 0..600),
        cut: Index,
    ) {
        let (before, after) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(decode(&[&bytes]), decode(&[before, after]));
    }

    #[test]
    fn what_is_kept_is_no_more_than_what_has_come(bytes in vec(any::<u8>(), 0..600)) {
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_sentence() {}
        let words: usize = decoder.words.iter().map(Vec::capacity).sum();
        prop_assert!(decoder.bytes.capacity() + words <= 2 * bytes.len() + 16);
    }
}
