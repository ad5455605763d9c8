//! The layout of tables as text: one line for each map, with the name, offset and size of every field. A daemon pins
//! the text beside its tables, so that a daemon with another layout, older or newer, can read the ids in them.

use std::fmt;

use svc_common::abi::layout::Field;

/// The fields of a map's keys and values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableLayout<'a> {
    pub name: &'a str,
    pub key: Vec<Field<'a>>,
    pub value: Vec<Field<'a>>,
}

impl fmt::Display for TableLayout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |fields: &[Field<'_>]| -> String {
            fields.iter().map(|field| format!(" {}@{}+{}", field.name, field.offset, field.octets)).collect()
        };
        write!(f, "{} key{} value{}", self.name, text(&self.key), text(&self.value))
    }
}

/// The text of these layouts.
pub fn render(layouts: &[TableLayout<'_>]) -> String {
    layouts.iter().map(|layout| format!("{layout}\n")).collect()
}

/// The layout of a map in a text. `None` if the text does not have it, or not in this form.
pub fn find<'a>(text: &'a str, name: &str) -> Option<TableLayout<'a>> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    let (name, fields) = line.split_once(" key ")?;
    let (key, value) = fields.split_once(" value ")?;
    let parsed = |text: &'a str| text.split(' ').map(parse_field).collect::<Option<Vec<_>>>();
    Some(TableLayout { name, key: parsed(key)?, value: parsed(value)? })
}

fn parse_field(text: &str) -> Option<Field<'_>> {
    let (name, place) = text.split_once('@')?;
    let (offset, octets) = place.split_once('+')?;
    Some(Field { name, offset: offset.parse().ok()?, octets: octets.parse().ok()? })
}

/// Number of octets of a key or value.
pub fn size(fields: &[Field<'_>]) -> Option<usize> {
    fields.iter().map(|field| field.offset.checked_add(field.octets)).max()?
}

/// Copies fields of one layout to the fields of the same name and size of another one.
#[derive(Debug, Eq, PartialEq)]
pub struct Conversion {
    /// Offset before, offset afterwards, octets.
    copies: Vec<(usize, usize, usize)>,
    octets: usize,
}

impl Conversion {
    pub fn between(old: &[Field<'_>], new: &[Field<'_>]) -> Self {
        let copies = new.iter().filter_map(|to| {
            let from = old.iter().find(|from| (from.name, from.octets) == (to.name, to.octets))?;
            Some((from.offset, to.offset, to.octets))
        });
        Self { copies: copies.collect(), octets: size(new).unwrap_or_default() }
    }

    /// Every octet of the result is copied.
    pub fn is_complete(&self) -> bool {
        self.copies.iter().map(|(_, _, octets)| octets).sum::<usize>() == self.octets
    }

    /// The same in the new layout; octets that are not copied are zero. `None` if the old ones are too few.
    pub fn convert(&self, old: &[u8]) -> Option<Vec<u8>> {
        let mut new = vec![0; self.octets];
        for &(from, to, octets) in &self.copies {
            new.get_mut(to..to + octets)?.copy_from_slice(old.get(from..from.checked_add(octets)?)?);
        }
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use svc_common::abi::{RECORDS_ABI, TABLES_ABI, names};

    use super::*;
    use crate::dataplane::shapes::{TableSizes, layouts, map_shapes};

    fn all() -> Vec<TableLayout<'static>> {
        layouts(&[names::TABLES, names::RECORDS].concat())
    }

    /// The layouts of every number that was ever given are in `svc-ctl/tests/abi`. A new file is written by
    /// UPDATE_EXPECT=1; an existing one never.
    #[test]
    fn a_number_keeps_its_layout() {
        for (kind, number, names) in
            [("tables", TABLES_ABI, names::TABLES), ("records", RECORDS_ABI, names::RECORDS)]
        {
            let text = render(&layouts(names));
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/abi/{kind}-v{number}.txt"));
            if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let path = path.display();
            let stored = std::fs::read_to_string(path.to_string()).unwrap_or_default();
            assert!(
                stored == text,
                "{path} is not the layout of the {kind}. A daemon that is upgraded would read the pinned maps wrongly.\n\
                 - A bit or a constant that earlier programs ignore changes no layout: take the change of the type back.\n\
                 - Any other change: add one to {}_ABI in svc-common/src/abi/mod.rs, and run this test with \
                 UPDATE_EXPECT=1, which writes the file of the new number. A new number of the tables costs nothing. A new \
                 number of the records ends every translated connection at the upgrade.\n\
                 - If no release has number {number} yet, delete the file and write it again.\n\
                 Stored:\n{stored}\nNow:\n{text}",
                kind.to_uppercase(),
            );
        }
    }

    #[test]
    fn fields_cover_every_octet_once() {
        for (shape, layout) in map_shapes(&TableSizes::default()).iter().zip(all()) {
            for (octets, fields) in [(shape.key_size, &layout.key), (shape.value_size, &layout.value)] {
                let mut fields = fields.clone();
                fields.sort_by_key(|field| field.offset);
                let end = fields.iter().fold(0, |end, field| {
                    assert_eq!(field.offset, end, "{} {}", layout.name, field.name);
                    end + field.octets
                });
                assert_eq!(end, octets as usize, "{}", layout.name);
            }
        }
    }

    #[test]
    fn the_text_of_a_layout_is_read_back() {
        let text = render(&all());
        for layout in all() {
            assert_eq!(find(&text, layout.name), Some(layout));
        }
        assert_eq!(find(&text, "FRONTENDS"), None);
    }

    #[test]
    fn a_damaged_text_has_no_layout() {
        for text in ["", "T", "T key", "T key a@0+4", "T key a value b@0+1", "T key a@x+1 value b@0+1"] {
            assert_eq!(find(text, "T"), None, "{text}");
        }
    }

    #[test]
    fn fields_are_found_by_name_and_size() {
        let text = "A key k@0+1 value a@0+1 b@1+2 c@3+1\nB key k@0+1 value c@0+1 new@1+1 b@2+2 a@4+2";
        let (a, b) = (find(text, "A").unwrap(), find(text, "B").unwrap());
        let there = Conversion::between(&a.value, &b.value);
        // `a` has another size there.
        assert_eq!(there.convert(&[1, 2, 3, 4]), Some(vec![4, 0, 2, 3, 0, 0]));
        let back = Conversion::between(&b.value, &a.value);
        assert_eq!(back.convert(&[4, 9, 2, 3, 1, 1]), Some(vec![0, 2, 3, 4]));
        assert!(!there.is_complete() && Conversion::between(&a.key, &b.key).is_complete());
        assert_eq!(there.convert(&[1]), None);
    }
}
