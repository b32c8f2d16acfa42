//! Every reader's mistake, and the keys nobody asked for.
#![allow(clippy::unwrap_used)]

use super::*;

/// What `read` finds wrong in `text`, a line each.
fn wrong(text: &str, read: impl FnOnce(&mut Table, &mut Problems)) -> String {
    let mut problems = Problems::default();
    let mut table = Table::document(text).unwrap();
    read(&mut table, &mut problems);
    table.finish(&mut problems);
    problems.to_string()
}

#[test]
fn each_reader_says_what_stands_there_and_what_belongs_there() {
    let nothing = |_: &mut Table, _: &mut Problems| {};
    let text = |t: &mut Table, p: &mut Problems| assert_eq!(t.text("k", p), None);
    let number = |t: &mut Table, p: &mut Problems| assert_eq!(t.number("k", p), None);
    let flag = |t: &mut Table, p: &mut Problems| assert_eq!(t.flag("k", p), None);
    let time = |t: &mut Table, p: &mut Problems| assert_eq!(t.duration("k", p), None);
    let table = |t: &mut Table, p: &mut Problems| assert!(t.table("k", p).is_none());
    let list = |t: &mut Table, p: &mut Problems| assert!(t.list("k", p).is_empty());
    type Read<'a> = &'a dyn Fn(&mut Table, &mut Problems);
    let texts = |t: &mut Table, p: &mut Problems| assert!(t.text_list("k", p).is_empty());
    let cases: [(&str, Read, &str); 16] = [
        ("k = 80", &text, r#"k = "80": is a number, not text; put it in quotes"#),
        ("k = true", &text, r#"k = "true": is a boolean, not text; put it in quotes"#),
        ("k = \"5\"", &number, r#"k = "5": is text, not a whole number; write digits without quotes"#),
        ("k = 1.5", &number, r#"k = "1.5": is a number, not a whole number; write digits without quotes"#),
        ("k = 0", &number, r#"k = "0": is out of range; use a number from 1 to 4294967295"#),
        ("k = -1", &number, r#"k = "-1": is out of range; use a number from 1 to 4294967295"#),
        ("k = 4294967296", &number, r#"k = "4294967296": is out of range; use a number from 1 to 4294967295"#),
        ("k = 1", &flag, r#"k = "1": is a number, neither true nor false; write true or false without quotes"#),
        ("k = \"soon\"", &time, r#"k = "soon": is not a length of time; write it like "500ms" or "2s""#),
        ("k = \"0s\"", &time, r#"k = "0s": is not a length of time; write it like "500ms" or "2s""#),
        ("k = 1", &table, r#"k = "1": is a number, not a table; write [k]"#),
        ("k = 1", &list, r#"k = "1": is a number, not a list of tables; write [[k]]"#),
        ("k = [1]", &list, r#"k[0] = "1": is a number, not a table; write [k[0]]"#),
        ("k = 1", &texts, r#"k = "1": is a number, not a list; write ["…", "…"]"#),
        ("k = [1]", &texts, r#"k[0] = "1": is a number, not text; put it in quotes"#),
        ("k = [1, 2]", &nothing, r#"k = "[1, 2]": is not a known key; known here: "#),
    ];
    for (given, read, expected) in cases {
        assert_eq!(wrong(given, read), expected, "{given}");
    }
}

#[test]
fn what_is_absent_is_no_mistake_unless_it_is_required() {
    let read = |t: &mut Table, p: &mut Problems| {
        assert_eq!((t.text("a", p), t.number("b", p), t.flag("c", p), t.duration("d", p)), (None, None, None, None));
        assert_eq!(t.required("name", "name the node", p), None);
    };
    assert_eq!(wrong("", read), "name: is missing; name the node");
}

#[test]
fn an_unknown_key_is_told_with_its_path_and_the_known_ones() {
    let read = |t: &mut Table, p: &mut Problems| {
        let mut inner = t.table("node", p).unwrap();
        inner.text("name", p);
        inner.text("address", p);
        inner.finish(p);
    };
    let expected = r#"node.nmae = "a": is not a known key; known here: name, address"#;
    assert_eq!(wrong("[node]\nnmae = \"a\"\naddress = \"b\"", read), expected);
}

#[test]
fn a_long_value_is_cut() {
    let text = format!("k = \"{}\"", "x".repeat(5000));
    assert!(wrong(&text, |_, _| ()).len() < 200);
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    let problems = Table::document("a = 1\nb = \n").err().unwrap().to_string();
    assert!(problems.starts_with("line 2: "), "{problems}");
}
