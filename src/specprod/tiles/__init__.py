"""What loads of single tiles are made of; `specprod.tile` puts it together."""
