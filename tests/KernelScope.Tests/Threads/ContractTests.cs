using System.Reflection;
using System.Xml.Linq;
using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;

namespace KernelScope.Tests.Threads;

/// <summary>Every public type says by how many threads it may be used, in words that can be searched for.</summary>
public class ContractTests
{
    [Fact]
    public void Every_public_type_says_who_may_use_it_at_once()
    {
        Assembly[] assemblies = [typeof(Device).Assembly, typeof(CpuDevice).Assembly, typeof(CudaDevice).Assembly];
        List<string> silent = [];
        foreach (Assembly assembly in assemblies)
        {
            var documentation = XDocument.Load(Path.ChangeExtension(assembly.Location, ".xml"));
            var texts = documentation.Descendants("member").ToDictionary(m => m.Attribute("name")!.Value, m => m.Value);
            foreach (Type type in assembly.GetExportedTypes().Where(t => !t.IsEnum && !t.IsNested && !typeof(Delegate).IsAssignableFrom(t)))
            {
                string text = texts.GetValueOrDefault($"T:{type.FullName}", "");
                if (!text.Contains("ny number of threads", StringComparison.Ordinal)
                    && !text.Contains("one caller at a time", StringComparison.Ordinal))
                    silent.Add(type.Name);
            }
        }

        Assert.Empty(silent);
    }
}
