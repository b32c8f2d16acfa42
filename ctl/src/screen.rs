//! A screen that is drawn over itself again and again: no flicker, and what matters stays in sight. Pure.

/// What a terminal shows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// To the upper left corner, clear the rest of each line, clear all below.
const HOME: &str = "\x1b[H";
const LINE_ENDS: &str = "\x1b[K\n";
const ALL_ENDS: &str = "\x1b[J";

/// `text` in the place of what was shown, then `foot`. Of what does not fit the end goes, and `foot` stays. Nothing is
/// cleared before it is written over, so that nothing blinks.
pub(crate) fn drawn(text: &str, foot: &str, size: Size) -> String {
    let columns = size.columns.max(1);
    let rows = |line: &str| width(line).div_ceil(columns).max(1);
    let mut left = size.rows.saturating_sub(rows(foot));
    let mut screen = HOME.to_owned();
    for line in text.lines() {
        if rows(line) > left {
            break;
        }
        left -= rows(line);
        screen.push_str(line);
        screen.push_str(LINE_ENDS);
    }
    screen + foot + "\x1b[K" + ALL_ENDS
}

/// How many columns a line takes; colours take none.
fn width(line: &str) -> usize {
    let mut escaped = false;
    let seen = line.chars().filter(|c| {
        let shown = !escaped && *c != '\x1b';
        escaped = *c == '\x1b' || (escaped && *c != 'm');
        shown
    });
    seen.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, rows: usize, columns: usize) -> Vec<String> {
        let screen = drawn(text, "foot", Size { rows, columns });
        let body = screen.strip_prefix(HOME).and_then(|s| s.strip_suffix("\x1b[K\x1b[J"));
        body.expect("it is drawn from the corner on").split(LINE_ENDS).map(str::to_owned).collect()
    }

    #[test]
    fn what_fits_is_drawn_and_the_foot_below_it() {
        assert_eq!(lines("one\n\ntwo\n", 24, 80), ["one", "", "two", "foot"]);
        assert_eq!(lines("one\n\ntwo\n", 4, 80), ["one", "", "two", "foot"]);
        assert_eq!(lines("", 24, 80), ["foot"]);
    }

    #[test]
    fn of_what_does_not_fit_the_beginning_is_seen() {
        assert_eq!(lines("one\ntwo\nthree\n", 3, 80), ["one", "two", "foot"]);
        assert_eq!(
            lines("one\n0123456789a\nthree\n", 4, 10),
            ["one", "0123456789a", "foot"],
            "a line may take two rows"
        );
        assert_eq!(lines("one\n0123456789a\nthree\n", 3, 10), ["one", "foot"]);
        assert_eq!(lines("\x1b[31m0123456789\x1b[0m\nb\n", 3, 10), ["\x1b[31m0123456789\x1b[0m", "b", "foot"]);
        assert_eq!(lines("one\n", 0, 0), ["foot"], "a terminal that does not know its size");
    }
}
