# cut
