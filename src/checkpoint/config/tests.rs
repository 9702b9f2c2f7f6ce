use super::*;
use crate::limits::Limits;
use crate::pickle;

fn config(pickle: &[u8]) -> (Json, bool) {
    let loaded = pickle::load(&pickle.to_vec(), 0, &Limits::unlimited()).unwrap();
    let mut config = Config::default();
    let found = config.read(&loaded.graph, loaded.root, false);
    (found.unwrap(), config.is_truncated)
}

#[test]
fn a_small_pickle_that_unfolds_to_exponential_size_is_cut() {
    // Forty lists, each with the one before it eight times.
    let mut pickle = b"\x80\x02K\x01q\x00".to_vec();
    for level in 1..40u8 {
        pickle.extend(b"](");
        (0..8).for_each(|_| pickle.extend([b'h', level - 1]));
        pickle.extend([b'e', b'q', level]);
    }
    pickle.push(b'.');
    let (found, is_truncated) = config(&pickle);
    assert!(is_truncated);
    assert!(found.to_string().len() < MAX_BYTES);
}

#[test]
fn deep_nesting_is_cut_at_a_depth_that_other_readers_of_json_take() {
    let mut pickle = b"\x80\x02".to_vec();
    pickle.extend(b"]".repeat(500_000));
    pickle.extend(b"a".repeat(499_999));
    pickle.push(b'.');
    let (found, is_truncated) = config(&pickle);
    assert!(is_truncated);
    let text = found.to_string();
    assert!(text.ends_with(&format!("[\"…\"{}", "]".repeat(MAX_DEPTH))));
    assert!(serde_json::from_str::<Json>(&text).is_ok());
}

#[test]
fn a_key_inside_a_key_is_cut() {
    // A frozen set as a key of a dict in a frozen set as a key of a dict …: quotes in quotes in quotes.
    let mut pickle = b"\x80\x04}".to_vec();
    for _ in 0..60 {
        pickle.extend(b"q\x000}((h\x00\x91K\x01u");
    }
    pickle.push(b'.');
    let (found, is_truncated) = config(&pickle);
    assert!(is_truncated);
    assert!(found.to_string().len() < 1000);
}

#[test]
fn long_text_is_told_by_its_length_and_huge_numbers_are_cut() {
    let text = |len: usize| {
        let mut pickle = b"\x80\x02X".to_vec();
        pickle.extend(u32::try_from(len).unwrap().to_le_bytes());
        pickle.extend(b"x".repeat(len));
        pickle.push(b'.');
        config(&pickle)
    };
    assert_eq!(text(MAX_TEXT), ("x".repeat(MAX_TEXT).into(), false));
    let longer = serde_json::json!({"__str__": MAX_TEXT + 1});
    assert_eq!(text(MAX_TEXT + 1), (longer, false));
    let number = |len: usize| {
        let mut pickle = b"\x80\x02\x8b".to_vec();
        pickle.extend(u32::try_from(len).unwrap().to_le_bytes());
        pickle.extend(b"\x7f".repeat(len));
        pickle.push(b'.');
        config(&pickle)
    };
    let (digits, is_truncated) = number(MAX_INT);
    assert_eq!(
        (digits.as_str().map(str::len), is_truncated),
        (Some(4299), false)
    );
    assert_eq!(number(MAX_INT + 1), (CUT.into(), true));
}

#[test]
fn a_path_of_many_keys_is_cut_where_it_would_overflow_the_stack() {
    let mut config = Config::default();
    let mut json = Json::Null;
    config.insert(&mut json, &vec!["k".to_owned(); 200_000], Json::from(1));
    assert!(config.is_truncated && json.is_null());
    config.insert(&mut json, &["a".to_owned(), "b".to_owned()], Json::from(2));
    assert_eq!(json, serde_json::json!({"a": {"b": 2}}));
}
