"""Uploads are decoded in processes of their own, so that none can hold up or end the page."""

from attentdiffernet.decoding_apart import DecodingPool

_pool = DecodingPool()
read_image, read_upload, highest_grey = _pool.read_image, _pool.read_upload, _pool.highest_grey
