"""`bb probe …`"""
