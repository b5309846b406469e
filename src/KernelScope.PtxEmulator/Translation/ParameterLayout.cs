using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>Offsets of kernel parameters: each at the next multiple of its alignment.</summary>
internal static class ParameterLayout
{
    public static IEnumerable<(PtxVariable Variable, int Offset)> Of(PtxFunction kernel)
    {
        int offset = 0;
        foreach (PtxVariable variable in kernel.Parameters)
        {
            offset = (offset + variable.Alignment - 1) / variable.Alignment * variable.Alignment;
            yield return (variable, offset);
            offset = checked(offset + (int)variable.Bytes);
        }
    }
}
