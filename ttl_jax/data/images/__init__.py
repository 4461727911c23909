"""One image at a time: decoding, encoding, and the cache of decoded images."""
