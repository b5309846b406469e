using KernelScope.Bench;
using KernelScope.Devices.Cpu;

// kernelscope-bench evaluation: what an evaluation costs beside the forward passes that it needs.
if (args is ["evaluation", ..])
{
    using var device = new CpuDevice();
    return EvaluationCost.Run(device, 16, 128);
}

return 0;
