"""`bb store …`"""
