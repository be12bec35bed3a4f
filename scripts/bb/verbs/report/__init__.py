"""`bb report …`"""
