"""Uploads are decoded in processes of their own, so that none can hold up or end the page."""

from attentdiffernet.decoding_apart import DecodingPool

read_image = DecodingPool().read
