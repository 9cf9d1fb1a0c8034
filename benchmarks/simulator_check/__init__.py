"""Does the simulator tell what the running platform does?"""
