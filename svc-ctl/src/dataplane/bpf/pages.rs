//! Maglev tables as pages. In a table of one page a place is one octet; in larger tables it is two.

use std::io;

use svc_common::abi::{Extent, MaglevPage};

use crate::dataplane::mmap::MappedArray;

const OCTETS: usize = MaglevPage::OCTETS as usize;

/// Writes the places of a table into its pages.
pub fn put(map: &mut MappedArray<MaglevPage>, pages: Extent, places: &[u16]) -> io::Result<()> {
    let mut octets = Vec::with_capacity(pages.count as usize * OCTETS);
    match pages.count {
        1 => {
            for place in places {
                octets.push(u8::try_from(*place).map_err(|_| invalid("a page names 256 backends at most"))?);
            }
        }
        _ => places.iter().for_each(|place| octets.extend(place.to_ne_bytes())),
    }
    if octets.len() != pages.count as usize * OCTETS {
        return Err(invalid("the places do not fill their pages"));
    }
    for (index, page) in (pages.first..).zip(octets.as_chunks::<OCTETS>().0) {
        map.set(index, &MaglevPage(*page))?;
    }
    Ok(())
}

/// Reads the places of a table.
pub fn get(map: &mut MappedArray<MaglevPage>, pages: Extent) -> io::Result<Vec<u16>> {
    let mut places = Vec::new();
    for index in pages.first..pages.first.saturating_add(pages.count) {
        let MaglevPage(page) = map.get(index)?;
        match pages.count {
            1 => places.extend(page.iter().map(|octet| u16::from(*octet))),
            _ => places.extend(page.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair))),
        }
    }
    Ok(places)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
