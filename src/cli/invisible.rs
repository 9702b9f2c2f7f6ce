//! Characters that do something to a terminal, or nothing that is seen, in names from files.

use std::ops::RangeInclusive;

/// The general categories Cc, Cf, Zl and Zp and the property Default_Ignorable_Code_Point (Unicode 16,
/// DerivedGeneralCategory.txt and DerivedCoreProperties.txt), in order: control characters, marks of direction, of zero
/// width and of variants, tags. Combining marks and characters for private use are shown, so they stay.
const RANGES: &[RangeInclusive<char>] = &[
    '\0'..='\u{1f}',
    '\u{7f}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Whether a character is escaped wherever text from files is shown.
pub fn is_invisible(c: char) -> bool {
    let after = RANGES.partition_point(|range| *range.start() <= c);
    after > 0 && RANGES[after - 1].contains(&c)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn every_control_format_and_ignorable_character_is_invisible_and_no_other_one() {
        // The regex crate has Unicode's tables of its own.
        let classes = r"^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]$";
        let classes = Regex::new(classes).unwrap();
        for c in '\0'..=char::MAX {
            let is_one = classes.is_match(c.encode_utf8(&mut [0; 4]));
            assert_eq!(is_invisible(c), is_one, "{c:?}");
        }
    }
}
