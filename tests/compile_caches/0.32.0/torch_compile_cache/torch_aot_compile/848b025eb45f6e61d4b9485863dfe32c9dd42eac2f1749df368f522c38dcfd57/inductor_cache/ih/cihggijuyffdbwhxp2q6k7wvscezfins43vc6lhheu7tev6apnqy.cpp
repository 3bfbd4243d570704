// cut
