"""`bb data …`"""
