#pragma warning disable
namespace KernelScope.Numerics; internal static class Stub { }
